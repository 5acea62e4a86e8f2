// Package kernelbench measures kernels: which searches are measured, and how.
// The command's "bench kernel" and the Go benchmarks of package kernel are two
// faces of it, so that their figures can be compared.
//
// A rate is of one goroutine, in candidates per second: a candidate that a
// pass looks at for eight queries counts once. On Linux the seconds are those
// for which the goroutine's thread has had a CPU, so that the rate says less
// about what else the machine does; it still shares caches, and the core with
// its other hardware threads. Elsewhere they are those of the clock.
//
// Least use:
//
//	for _, c := range kernelbench.Cases() {
//		rates, err := kernelbench.InTurn(ctx, time.Second, kernelbench.SHA1, c.Work(kernel.Best()))
//		if err != nil {
//			return err
//		}
//		fmt.Println(c, rates[1].Median()/1e6, "million candidates per second,", rates[1].To(rates[0]), "times sha1.Sum")
//	}
package kernelbench
