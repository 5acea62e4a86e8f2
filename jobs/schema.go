package jobs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// schema is the version of the data in Redis: of keys, fields and payloads. Processes of one schema work side by side,
// whatever their version is. What they can ignore does not change it; else it is counted up, and the data that have no
// schema yet are of the first.
const schema = 1

// ErrSchema says that the data in Redis are another version's.
var ErrSchema = errors.New("the data in Redis are of another version of hashfinder")

// Join readies the store for this process: it makes sure that the data are of its schema. A process calls it before
// anything else. Errors: ErrSchema, ErrUnavailable.
func (s *Store) Join(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	stored, err := s.scripts.schema.Run(call, s.client, []string{keySchema}, schema).Text()
	switch {
	case err != nil:
		return redisError(ctx, "read schema", err)
	case stored == strconv.Itoa(schema):
		return nil
	}
	age := "a newer version"
	if n, err := strconv.Atoi(stored); err == nil && n < schema {
		age = "an older version"
	}
	return fmt.Errorf("%w: they have schema %q, of %s, and this one needs schema %d. Nothing was changed. "+
		"Go on with that version, or let it finish its jobs and start this one on an empty Redis (docs/operations.md, Upgrade)",
		ErrSchema, stored, age, schema)
}
