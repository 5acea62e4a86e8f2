package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
)

// domain is that of every ErrorInfo.
const domain = "hashfinder"

// Reasons of ErrorInfo.
const (
	reasonInvalidField   = "INVALID_FIELD"
	reasonUnsatisfiable  = "UNSATISFIABLE"
	reasonRequestReused  = "REQUEST_ID_REUSED"
	reasonJobNotFound    = "JOB_NOT_FOUND"
	reasonJobEnded       = "JOB_ENDED"
	reasonJobActive      = "JOB_ACTIVE"
	reasonNotExhausted   = "JOB_NOT_EXHAUSTED"
	reasonJobExtended    = "JOB_EXTENDED"
	reasonJobStopping    = "JOB_STOPPING"
	reasonJobAttached    = "JOB_ATTACHED"
	reasonJobCancelled   = "JOB_CANCELLED"
	reasonJobOrphaned    = "JOB_ORPHANED"
	reasonEtagMismatch   = "ETAG_MISMATCH"
	reasonOutOfRange     = "SEQUENCE_OUT_OF_RANGE"
	reasonLogLost        = "EVENTS_LOST"
	reasonQuotaExceeded  = "QUOTA_EXCEEDED"
	reasonBudgetUsedUp   = "BUDGET_EXHAUSTED"
	reasonPoisoned       = "POISONED"
	reasonUnavailable    = "STORE_UNAVAILABLE"
	reasonNotReplicated  = "NOT_REPLICATED"
	reasonShuttingDown   = "SHUTTING_DOWN"
	reasonStalled        = "STREAM_STALLED"
	reasonCallCancelled  = "CALL_CANCELLED"
	reasonDeadlinePassed = "DEADLINE_EXCEEDED"
	reasonInternal       = "INTERNAL"
)

const (
	// retrySoon is for what passes by itself in a moment, or is better at another front end.
	retrySoon = time.Second
	// retryQuota is for quotas: other jobs must end first.
	retryQuota = 10 * time.Second
	// deadlineSlack is how long before a call's deadline its cancellation is taken for the deadline's work. The
	// client's deadline passes a little before the server's, as its clock starts first, and its cancellation may arrive
	// in between.
	deadlineSlack = 100 * time.Millisecond
)

// Ends of a call that the server brings about.
var (
	errShutdown = errors.New("the server is shutting down")
	errStalled  = errors.New("the client does not read the stream")
)

// longCallError says that a search took longer than MaxCallDuration.
type longCallError struct{ limit time.Duration }

func (e *longCallError) Error() string {
	return fmt.Sprintf("the call took longer than this server allows, %v", e.limit)
}

// invalidError is a fault of one field of a request.
type invalidError struct {
	field       string // path in the request
	reason      string
	description string
}

func (e *invalidError) Error() string { return e.field + ": " + e.description }

func invalidField(field, format string, args ...any) error {
	return &invalidError{field: field, reason: reasonInvalidField, description: fmt.Sprintf(format, args...)}
}

// inField puts the path of the message that a fault was found in before the name of its field.
func inField(prefix string, err error) error {
	var query *search.QueryError
	var field *jobs.FieldError
	switch {
	case errors.As(err, &query):
		reason := reasonInvalidField
		if query.Unsatisfiable {
			reason = reasonUnsatisfiable
		}
		return &invalidError{field: prefix + query.Field, reason: reason, description: query.Description}
	case errors.As(err, &field):
		return invalidField(prefix+field.Field, "%s", field.Description)
	}
	return err
}

// endError is the end of a search without an ideal hit, to the call that waits for it.
type endError struct{ job jobs.Job }

func (e *endError) Error() string {
	return fmt.Sprintf("job %s ended %s: %s", e.job.ID, e.job.State, e.job.Reason)
}

// statusOf is the one place where errors become codes. ctx is the call's and id its request id. It tells whether the
// error is known; what is not is for the log, and the client learns nothing but the id.
func statusOf(ctx context.Context, err error, id string) (st *status.Status, known bool) {
	if err == nil {
		return nil, true
	}
	err = inField("", err)
	var (
		invalid  *invalidError
		end      *endError
		beyond   *jobs.RangeError
		extended *jobs.ExtendedError
		quota    *jobs.QuotaError
		longCall *longCallError
		made     interface{ GRPCStatus() *status.Status }
	)
	switch {
	case errors.As(err, &invalid):
		return invalidStatus(invalid), true
	case errors.Is(err, jobs.ErrRequestUsed):
		return invalidStatus(&invalidError{"request_id", reasonRequestReused, "it was used for another job"}), true
	case errors.Is(err, jobs.ErrNotFound):
		return newStatus(codes.NotFound, reasonJobNotFound, "there is no such job", nil), true
	case errors.Is(err, jobs.ErrEnded):
		return newStatus(codes.FailedPrecondition, reasonJobEnded, "the job has ended", nil), true
	case errors.Is(err, jobs.ErrNotUsedUp):
		return newStatus(codes.FailedPrecondition, reasonNotExhausted, "the job has not used up its budget", nil), true
	case errors.As(err, &extended):
		return newStatus(codes.FailedPrecondition, reasonJobExtended, "the job was extended, by "+jobName(extended.By),
			map[string]string{"extended_by": jobName(extended.By)}), true
	case errors.Is(err, jobs.ErrStopping):
		return newStatus(codes.FailedPrecondition, reasonJobStopping, "the job is being cancelled", nil), true
	case errors.Is(err, jobs.ErrAttached):
		return newStatus(codes.FailedPrecondition, reasonJobAttached, "the job lives only while it is watched: it cannot be paused", nil), true
	case errors.Is(err, jobs.ErrActive):
		return newStatus(codes.FailedPrecondition, reasonJobActive, "the job has not ended: cancel it first", nil), true
	case errors.Is(err, jobs.ErrChanged):
		return newStatus(codes.Aborted, reasonEtagMismatch, "the job has another etag: get it again", nil), true
	case errors.As(err, &beyond):
		return newStatus(codes.OutOfRange, reasonOutOfRange, beyond.Error(), map[string]string{"last_sequence": uintText(beyond.Last)}), true
	case errors.Is(err, jobs.ErrLogLost):
		return newStatus(codes.DataLoss, reasonLogLost, "the job store has lost events of the job; its state is there", nil), true
	case errors.As(err, &quota):
		return quotaStatus(quota), true
	case errors.As(err, &end):
		return endStatus(&end.job), true
	case errors.As(err, &longCall):
		return budgetStatus("duration", longCall.limit.String(), longCall.limit.String()), true
	case errors.Is(err, errShutdown):
		return retryStatus(reasonShuttingDown, errShutdown.Error()), true
	case errors.Is(err, errStalled):
		return retryStatus(reasonStalled, errStalled.Error()), true
	case errors.Is(err, jobs.ErrNotReplicated):
		return retryStatus(reasonNotReplicated,
			"it is stored, but too few replicas of the job store have confirmed it: ask again, with the same request_id if it had one"), true
	case errors.Is(err, jobs.ErrUnavailable):
		return retryStatus(reasonUnavailable, "the job store does not answer"), true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		switch {
		case ctx.Err() == nil: // not the call's own end: a bound on a part of it
			return retryStatus(reasonUnavailable, "the job store does not answer in time"), true
		case deadlinePassed(ctx):
			return newStatus(codes.DeadlineExceeded, reasonDeadlinePassed, "the deadline of the call has passed", nil), true
		}
		return newStatus(codes.Canceled, reasonCallCancelled, "the client has cancelled the call", nil), true
	case errors.As(err, &made): // from grpc-go, its health service or its reflection
		return made.GRPCStatus(), true
	}
	message := "internal error; the server's log tells more about request " + id
	return newStatus(codes.Internal, reasonInternal, message, map[string]string{"request_id": id}), false
}

// deadlinePassed tells whether a call that has ended did so because of its deadline.
func deadlinePassed(ctx context.Context) bool {
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return true
	}
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < deadlineSlack
}

// endStatus is what Find and FindRange return when the search ended without an ideal hit.
func endStatus(job *jobs.Job) *status.Status {
	budget := &job.Spec.Budget
	metadata := map[string]string{"job": jobName(job.ID), "end_reason": reasonOf(job.Reason).String()}
	switch job.Reason {
	case jobs.CandidatesExhausted:
		return budgetStatus("candidates", uintText(job.Progress.Searched), uintText(budget.Candidates))
	case jobs.HitsExhausted:
		return budgetStatus("hits", uintText(job.Hits), uintText(budget.Hits))
	case jobs.DurationExhausted:
		return budgetStatus("duration", job.EndTime.Sub(job.StartTime).String(), budget.Duration.String())
	case jobs.Poisoned:
		return poisonStatus(job)
	case jobs.Orphaned:
		return newStatus(codes.Unavailable, reasonJobOrphaned, "the server lost hold of the search", metadata, retryInfo(retrySoon))
	case jobs.CancelledByClient, jobs.DeadlineExceeded:
		return newStatus(codes.Canceled, reasonJobCancelled, "the search was cancelled by its name, "+jobName(job.ID), metadata)
	case jobs.Found:
	}
	return newStatus(codes.Internal, reasonInternal, "the search ended in an unknown way", metadata)
}

// poisonStatus is the error of a job that has failed.
func poisonStatus(job *jobs.Job) *status.Status {
	return newStatus(codes.Internal, reasonPoisoned, "a piece of the search killed its worker too often",
		map[string]string{"job": jobName(job.ID), "chunk": job.Poison})
}

func budgetStatus(budget, used, limit string) *status.Status {
	message := fmt.Sprintf("the budget of %s is used up: %s of %s", budget, used, limit)
	return newStatus(codes.ResourceExhausted, reasonBudgetUsedUp, message,
		map[string]string{"budget": budget, "used": used, "limit": limit},
		&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: "budget:" + budget, Description: message}}})
}

func quotaStatus(err *jobs.QuotaError) *status.Status {
	message := fmt.Sprintf("%d jobs have not ended, and %d may run at once", err.Active, err.Limit)
	return newStatus(codes.ResourceExhausted, reasonQuotaExceeded, message,
		map[string]string{"active": uintText(err.Active), "limit": uintText(err.Limit)},
		&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: "tenant:" + err.Tenant, Description: message}}},
		retryInfo(retryQuota))
}

func invalidStatus(err *invalidError) *status.Status {
	return newStatus(codes.InvalidArgument, err.reason, err.Error(), map[string]string{"field": err.field},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: err.field, Description: err.description, Reason: err.reason},
		}})
}

// retryStatus is for what another try may get past.
func retryStatus(reason, message string) *status.Status {
	return newStatus(codes.Unavailable, reason, message, nil, retryInfo(retrySoon))
}

func retryInfo(delay time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}
}

func newStatus(code codes.Code, reason, message string, metadata map[string]string, details ...protoadapt.MessageV1) *status.Status {
	info := &errdetails.ErrorInfo{Reason: reason, Domain: domain, Metadata: metadata}
	st := status.New(code, message)
	if full, err := st.WithDetails(append([]protoadapt.MessageV1{info}, details...)...); err == nil {
		return full
	}
	return st // not reachable: the details are well formed and the code is not OK
}

func uintText(n uint64) string { return strconv.FormatUint(n, 10) }
