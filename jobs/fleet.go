package jobs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fleetTTL is how long a worker counts without a heartbeat.
const fleetTTL = 5 * time.Second

// Fleet is what the workers present can do together.
type Fleet struct {
	Workers int
	Slots   int     // chunks that they run at a time, for each queue
	Rate    float64 // candidates a second that all slots search together
}

// window is how many tickets a sweep may have at a time: enough that a lone job keeps every slot busy, and that many
// jobs share them.
func (f Fleet) window(live int) int {
	return max(2, (f.Slots+live-1)/max(1, live)+1)
}

// Heartbeat counts a worker into the fleet, or out of it when it has no slots. rate is in candidates a second.
func (s *Store) Heartbeat(ctx context.Context, worker string, slots int, rate float64) error {
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	err := s.scripts.heartbeat.Run(call, s.client, []string{keyFleet},
		worker, slots, strconv.FormatFloat(rate, 'f', 0, 64), fleetTTL.Milliseconds()).Err()
	return redisError(ctx, "heartbeat of worker "+worker, err)
}

// Fleet returns what the workers present can do.
func (s *Store) Fleet(ctx context.Context) (Fleet, error) {
	workers, err := s.workers(ctx)
	if err != nil {
		return Fleet{}, err
	}
	var fleet Fleet
	for _, worker := range workers {
		fleet.Workers += worker.Workers
		fleet.Slots += worker.Slots
		fleet.Rate += worker.Rate
	}
	return fleet, nil
}

// Workers returns the names of the workers present, in no order.
func (s *Store) Workers(ctx context.Context) ([]string, error) {
	workers, err := s.workers(ctx)
	return slices.Collect(maps.Keys(workers)), err
}

// workers returns the workers present, each as a fleet of its own.
func (s *Store) workers(ctx context.Context) (map[string]Fleet, error) {
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	now, err := s.client.Time(call).Result()
	if err != nil {
		return nil, redisError(ctx, "read fleet", err)
	}
	records, err := s.client.HGetAll(call, keyFleet).Result()
	if err != nil {
		return nil, redisError(ctx, "read fleet", err)
	}
	workers := map[string]Fleet{}
	for worker, record := range records {
		words := strings.Fields(record)
		if len(words) < 3 { // a newer version may say more
			return nil, fmt.Errorf("read fleet: malformed record %q of worker %s", record, worker)
		}
		d := decoder{fields: map[string]string{"until": words[0], "slots": words[1], "rate": words[2]}}
		if until := d.time("until"); until.Before(now) {
			continue
		}
		workers[worker] = Fleet{Workers: 1, Slots: int(d.uint("slots")), Rate: float64(d.uint("rate"))}
		if d.err != nil {
			return nil, fmt.Errorf("read fleet: worker %s: %w", worker, d.err)
		}
	}
	return workers, nil
}
