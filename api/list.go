package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"

	"github.com/google/uuid"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

const (
	defaultPageSize = 50
	maxPageSize     = 1000
	// defaultMaxScanned bounds the jobs that one call looks at for a filter. A call that reaches it returns a short
	// page.
	defaultMaxScanned = 10_000
	// scanBatch is how many of them are read at a time.
	scanBatch = 500
)

// ListJobs implements hashfinder.v1.JobService.
func (s *jobService) ListJobs(ctx context.Context, req *hashfinderv1.ListJobsRequest) (*hashfinderv1.ListJobsResponse, error) {
	size, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	wanted, err := parseFilter(req.GetFilter())
	if err != nil {
		return nil, err
	}
	after, err := readPageToken(req.GetPageToken(), req.GetFilter())
	if err != nil {
		return nil, err
	}
	response := &hashfinderv1.ListJobsResponse{}
	for scanned := 0; scanned < s.maxScanned; {
		batch := size - len(response.GetJobs()) + 1 // one more tells whether there is a next page
		if len(wanted) > 0 {
			batch = min(scanBatch, s.maxScanned-scanned)
		}
		page, next, err := s.service.List(ctx, tenantOf(ctx), after, batch)
		if err != nil {
			return nil, err
		}
		for i := range page {
			if !wanted.match(&page[i]) {
				continue
			}
			job, err := s.estimates.jobOf(&page[i])
			if err != nil {
				return nil, err
			}
			response.Jobs = append(response.Jobs, job)
			if last := i == len(page)-1 && next == ""; len(response.GetJobs()) == size && !last {
				response.NextPageToken = newPageToken(page[i].ID, req.GetFilter())
				return response, nil
			}
		}
		if next == "" {
			return response, nil
		}
		after, scanned = next, scanned+len(page)
	}
	response.NextPageToken = newPageToken(after, req.GetFilter())
	return response, nil
}

func pageSize(asked int32) (int, error) {
	switch {
	case asked < 0:
		return 0, invalidField("page_size", "it must not be negative, but is %d", asked)
	case asked == 0:
		return defaultPageSize, nil
	}
	return min(int(asked), maxPageSize), nil
}

// A page token is the id of the last job that was looked at, and the sum of the filter that it was looked at with.
const filterSum = 8

// newPageToken returns the token of the page after the job of that id, "" when there is none such.
func newPageToken(id, filter string) string {
	last, err := uuid.Parse(id)
	if err != nil {
		return "" // not reachable: jobs have UUIDs
	}
	sum := sha256.Sum256([]byte(filter))
	return base64.RawURLEncoding.EncodeToString(append(last[:], sum[:filterSum]...))
}

// readPageToken returns the id that the page is to begin after, "" for the first page.
func readPageToken(token, filter string) (string, error) {
	if token == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != len(uuid.UUID{})+filterSum {
		return "", invalidField("page_token", "it is not one that this server gave out")
	}
	last := uuid.UUID(raw[:len(uuid.UUID{})])
	if newPageToken(last.String(), filter) != token {
		return "", invalidField("page_token", "it belongs to another filter")
	}
	return last.String(), nil
}
