package worker_test

import (
	"testing"

	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

func TestMain(m *testing.M) { jobstest.Main(m) }
