package kernel_test

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/hashfinder/hashfinder/worker/kernel"
)

// TestKernelsOfThisMachine holds that the machine's fast kernels are among
// All, where the other tests find them. It asks Linux what the CPU has, and not
// what the kernels ask: a mistake there would only make the tests shorter.
func TestKernelsOfThisMachine(t *testing.T) {
	var names []string
	for _, k := range kernel.All() {
		names = append(names, k.Name())
	}
	cpuFlags := readCPUFlags(t)
	for _, test := range []struct {
		kernel string
		flags  []string // as Linux names them
	}{
		{"avx512", []string{"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vbmi", "avx512_vbmi2", "gfni"}},
		{"avx2", []string{"avx2"}},
	} {
		t.Run(test.kernel, func(t *testing.T) {
			has := !slices.ContainsFunc(test.flags, func(flag string) bool { return !slices.Contains(cpuFlags, flag) })
			got := slices.Contains(names, test.kernel)
			switch {
			case got && (!has || purego || switchedOff(test.kernel)):
				t.Errorf("All is %v; purego: %t, GODEBUG=%s, and the CPU has all of %v: %t",
					names, purego, os.Getenv("GODEBUG"), test.flags, has)
			case got:
			case !has:
				t.Skip("the CPU lacks instructions")
			case purego:
				t.Skip("built without assembly")
			case partlyOff(test.kernel):
				t.Skip("switched off by GODEBUG")
			case os.Getenv("CI") == "":
				t.Skipf("NOT TESTED: All is %v without %s, but the CPU has %v; CI fails", names, test.kernel, test.flags)
			default:
				t.Errorf("All is %v without %s, but the CPU has %v", names, test.kernel, test.flags)
			}
		})
	}
}

// readCPUFlags returns what Linux says that an x86 CPU has, nothing elsewhere.
func readCPUFlags(t *testing.T) []string {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return nil
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(cpuinfo)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "flags" {
			return strings.Fields(value)
		}
	}
	t.Fatal("no flags in /proc/cpuinfo")
	return nil
}

// switchedOff reports whether GODEBUG takes the kernel's instructions away.
func switchedOff(kernel string) bool {
	return slices.ContainsFunc(godebugOff(), func(option string) bool { return option == "cpu.all" || option == "cpu."+kernel })
}

// partlyOff reports whether GODEBUG takes some of them away.
func partlyOff(kernel string) bool {
	return switchedOff(kernel) ||
		slices.ContainsFunc(godebugOff(), func(option string) bool { return strings.HasPrefix(option, "cpu."+kernel) })
}

func godebugOff() []string {
	var off []string
	for setting := range strings.SplitSeq(os.Getenv("GODEBUG"), ",") {
		if option, ok := strings.CutSuffix(setting, "=off"); ok {
			off = append(off, option)
		}
	}
	return off
}
