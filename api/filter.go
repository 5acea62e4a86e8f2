package api

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashfinder/hashfinder/jobs"
)

// maxFilter bounds the length of a filter, in bytes.
const maxFilter = 4096

// filter is the restrictions that a job must meet, all of them.
//
// It is the part of AIP-160 that lists of jobs need, restrictions joined by AND:
//
//	state = RUNNING            state != SUCCEEDED
//	labels.team = "red"        labels.team != "red"    (which a job without the label meets)
//	create_time > "2026-01-01T00:00:00Z", and likewise with >=, <, <=
type filter []func(*jobs.Job) bool

func (f filter) match(job *jobs.Job) bool {
	for _, met := range f {
		if !met(job) {
			return false
		}
	}
	return true
}

// parseFilter reads a filter; the empty one lets every job through. Its errors name the character that they are about.
func parseFilter(text string) (filter, error) {
	if len(text) > maxFilter {
		return nil, invalidField("filter", "it may have %d bytes at most, not %d", maxFilter, len(text))
	}
	p := &filterParser{text: text}
	p.next()
	var f filter
	for p.err == nil && p.token.kind != endToken {
		if len(f) > 0 {
			if p.token != (filterToken{wordToken, "AND", p.token.at}) {
				p.fail("expected AND, not %s", p.token)
				break
			}
			p.next()
		}
		f = append(f, p.restriction())
	}
	if p.err != nil {
		return nil, p.err
	}
	return f, nil
}

type tokenKind int

const (
	endToken tokenKind = iota
	wordToken
	stringToken // in quotes, which are gone
	operatorToken
)

type filterToken struct {
	kind tokenKind
	text string
	at   int // its first byte in the filter
}

func (t filterToken) String() string {
	if t.kind == endToken {
		return "the end"
	}
	return fmt.Sprintf("%q", t.text)
}

type filterParser struct {
	text  string
	pos   int
	token filterToken
	err   error // the first
}

// fail keeps an error about the current token.
func (p *filterParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = invalidField("filter", "at character %d: %s", p.token.at+1, fmt.Sprintf(format, args...))
	}
}

// next reads a token.
func (p *filterParser) next() {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}
	p.token = filterToken{kind: endToken, at: p.pos}
	rest := p.text[p.pos:]
	if rest == "" {
		return
	}
	switch c := rest[0]; {
	case c == '"' || c == '\'':
		p.quoted(c)
		return
	case strings.HasPrefix(rest, "!=") || strings.HasPrefix(rest, "<=") || strings.HasPrefix(rest, ">="):
		p.token.kind, p.token.text = operatorToken, rest[:2]
	case strings.IndexByte("=<>", c) >= 0:
		p.token.kind, p.token.text = operatorToken, rest[:1]
	case isWord(c):
		n := 0
		for n < len(rest) && isWord(rest[n]) {
			n++
		}
		p.token.kind, p.token.text = wordToken, rest[:n]
	case c == '(' || c == ')':
		p.fail("parentheses are not supported: restrictions are joined by AND")
	case c == ':':
		p.fail("the operator : is not supported")
	default:
		p.fail("unexpected character %q", []rune(rest)[0])
	}
	p.pos += len(p.token.text)
	switch p.token {
	case filterToken{wordToken, "OR", p.token.at}, filterToken{wordToken, "NOT", p.token.at}:
		p.fail("%s is not supported: restrictions are joined by AND", p.token.text)
	}
}

// quoted reads a string in quotes. A backslash takes the character after it as it is.
func (p *filterParser) quoted(quote byte) {
	var value strings.Builder
	for i := p.pos + 1; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == quote:
			p.token.kind, p.token.text = stringToken, value.String()
			p.pos = i + 1
			return
		case c == '\\' && i+1 < len(p.text):
			i++
			value.WriteByte(p.text[i])
		default:
			value.WriteByte(c)
		}
	}
	p.fail("the string has no end")
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' || c == '.'
}

// restriction reads one restriction. After an error its result means nothing.
func (p *filterParser) restriction() func(*jobs.Job) bool {
	field := p.token
	if field.kind != wordToken {
		p.fail("expected a field, not %s", field)
		return nil
	}
	label, isLabel := strings.CutPrefix(field.text, "labels.")
	switch {
	case isLabel && !isLabelKey(label):
		p.fail("%q is no key of a label", label)
	case !isLabel && field.text != "state" && field.text != "create_time":
		p.fail("unknown field %q: there are state, labels.KEY and create_time", field.text)
	}
	p.next()
	operator := p.token
	switch {
	case operator.kind != operatorToken:
		p.fail("expected an operator, not %s", operator)
	case field.text == "create_time" && (operator.text == "=" || operator.text == "!="):
		p.fail("create_time is compared with >, >=, < or <=")
	case field.text != "create_time" && operator.text != "=" && operator.text != "!=":
		p.fail("%s is compared with = or !=", field.text)
	}
	p.next()
	value := p.token
	if value.kind != wordToken && value.kind != stringToken {
		p.fail("expected a value, not %s", value)
	}
	equal := operator.text == "="
	var met func(*jobs.Job) bool
	switch field.text {
	case "state":
		state, ok := stateNamed(value.text)
		if !ok {
			p.fail("unknown state %s", value)
		}
		met = func(job *jobs.Job) bool { return (job.State == state) == equal }
	case "create_time":
		met = p.createTime(operator.text, value)
	default:
		met = func(job *jobs.Job) bool {
			have, ok := job.Spec.Labels[label]
			return (ok && have == value.text) == equal
		}
	}
	p.next()
	return met
}

func (p *filterParser) createTime(operator string, value filterToken) func(*jobs.Job) bool {
	bound, err := time.Parse(time.RFC3339Nano, value.text)
	if value.kind != stringToken || err != nil {
		p.fail(`%s is no time such as "2026-01-31T12:00:00Z", in quotes`, value)
	}
	return func(job *jobs.Job) bool {
		order := job.CreateTime.Compare(bound)
		switch operator {
		case ">":
			return order > 0
		case ">=":
			return order >= 0
		case "<":
			return order < 0
		default: // <=
			return order <= 0
		}
	}
}
