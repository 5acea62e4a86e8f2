// Command hashfinder looks for secrets whose base64 SHA-1 contains a name.
//
//	hashfinder find doctor
//
// searches in this process, with nothing to install and nothing kept. With --server the same search is a job of a
// running hashfinder, which many workers share. The other commands submit, list, watch, pause, resume, extend,
// cancel and delete such jobs, and serve runs the service itself.
//
// Answers go to standard output, everything else to standard error. The exit status says how it ended:
//
//	0    found, or done
//	1    it failed
//	2    it was asked wrongly: the command line or an argument
//	3    a budget was used up before the name was found
//	4    the job was cancelled, or the time given by --timeout has passed
//	130  interrupted
package main
