package zonefile

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"bailiwick/geodns/dnssec"
)

// Limits of a zone file, that no zone beside a steered one reaches.
const (
	maxFile    = 1 << 20 // octets
	maxRecords = 10_000
	maxOctets  = 4 << 20  // of all records: $GENERATE makes many of a few octets
	maxNames   = 40_000   // with the empty ones above those that have records
	maxSet     = 16 << 10 // octets of one set: an answer must hold it, signed
	maxFaults  = 20
)

// defaultTTL is of a file without $TTL.
const defaultTTL = 3600

// refusedTypes are the types that a zone file may not hold, and what to do.
var refusedTypes = map[uint16]string{
	dns.TypeDS:         "this zone delegates nothing: remove it",
	dns.TypeDNAME:      "not served: use CNAME records",
	dns.TypeDNSKEY:     "the signer makes it: remove it",
	dns.TypeRRSIG:      "the signer makes it: remove it, and load the unsigned zone",
	dns.TypeNSEC:       "the signer makes it: remove it, and load the unsigned zone",
	dns.TypeNSEC3:      "the signer makes it: remove it, and load the unsigned zone",
	dns.TypeNSEC3PARAM: "the signer makes it: remove it, and load the unsigned zone",
	dns.TypeCDS:        "the signer makes it: remove it",
	dns.TypeCDNSKEY:    "the signer makes it: remove it",
}

// Parse reads a zone file (RFC 1035 section 5, with $ORIGIN, $TTL and
// $GENERATE) of the zone apex; file is its name in messages. Errors are joined, each
// file:line and what to do: syntax first, and then, if there is none, meaning.
//
// The file's SOA gives the zone its MNAME, RNAME and timers; serial and negative TTL
// are the server's. NS records at the apex take the place of ns1.
func Parse(apex, file string, data []byte) (*Records, error) {
	r := &reader{file: file, z: newRecords(apex), sizes: map[string]int{}}
	if len(data) > maxFile {
		r.fault(1, "%d octets: want at most %d", len(data), maxFile)
		return nil, errors.Join(r.faults...)
	}
	list := r.read(slices.Clone(data))
	if r.faults == nil {
		for i := range list {
			r.add(&list[i])
		}
		r.judge(list)
	}
	if r.faults != nil {
		return nil, errors.Join(r.faults...)
	}
	r.z.seal()
	r.z.file, r.z.list = file, list
	return r.z, nil
}

type reader struct {
	z      *Records
	file   string
	faults []error
	sizes  map[string]int // octets by set
	packet [dns.MaxMsgSize]byte
}

// record is a record and the line on which it ends.
type record struct {
	dns.RR
	line int
}

func (r *reader) fault(line int, format string, args ...any) {
	if len(r.faults) < maxFaults {
		r.faults = append(r.faults, fmt.Errorf("%s:%d: %s", r.file, line, fmt.Sprintf(format, args...)))
	}
}

// read parses the text. The library stops at the first fault: the entry that has it
// is then blanked and the text read again.
func (r *reader) read(data []byte) (list []record) {
	for len(r.faults) < maxFaults {
		src := &lineCounter{data: data}
		p := dns.NewZoneParser(src, r.z.apex, "")
		p.SetDefaultTTL(defaultTTL)
		list = list[:0]
		last, octets := 0, 0 // the line on which the entry before ends
		var err error
		for rr, ok := p.Next(); ok; rr, ok = p.Next() {
			if empty(rr) {
				err = fmt.Errorf("%.128s %s: no data", rr.Header().Name, dns.Type(rr.Header().Rrtype))
				break
			}
			last = src.line()
			if list = append(list, record{rr, last}); len(list) > maxRecords {
				r.fault(last, "more than %d records: serve so large a zone elsewhere", maxRecords)
				return nil
			}
			if octets += dns.Len(rr); octets > maxOctets {
				r.fault(last, "more than %d octets of records: serve so large a zone elsewhere", maxOctets)
				return nil
			}
		}
		if err == nil {
			err = p.Err()
		}
		if err == nil {
			return list
		}
		r.fault(src.line(), "%s", syntax(err))
		blank(data, last+1, src.line())
	}
	return nil
}

// empty tells whether a record has no data: the library takes that, for RFC 2136.
func empty(rr dns.RR) bool {
	blank, ok := dns.TypeToRR[rr.Header().Rrtype]
	if !ok {
		return false
	}
	zero := blank()
	*zero.Header() = *rr.Header()
	return dns.IsDuplicate(zero, rr)
}

// syntax words the library's error.
func syntax(err error) string {
	text := strings.TrimPrefix(err.Error(), "dns: ")
	if i := strings.LastIndex(text, " at line: "); i >= 0 {
		text = text[:i]
	}
	switch {
	case strings.Contains(text, "$INCLUDE"):
		text += ": put its records into this file"
	case strings.Contains(text, "RR type"), strings.Contains(text, "RRtype"), strings.Contains(text, "not a TTL"):
		text += `: want NAME [TTL] [IN] TYPE DATA; a type without a name is written TYPE123 \# LENGTH HEX (RFC 3597)`
	}
	return text
}

// lineCounter knows how far the library has read. It gives a blank before each end
// of a line: within parentheses the library would otherwise join the last word of
// one line and the first of the next.
type lineCounter struct {
	data  []byte
	at    int
	full  int // lines
	blank bool
}

func (l *lineCounter) ReadByte() (byte, error) {
	if l.at == len(l.data) {
		return 0, io.EOF
	}
	c := l.data[l.at]
	if l.blank = c == '\n' && !l.blank; l.blank {
		return ' ', nil
	}
	if l.at++; c == '\n' {
		l.full++
	}
	return c, nil
}

// Read makes it an [io.Reader], which the library asks for and does not call.
func (l *lineCounter) Read(p []byte) (int, error) {
	n := copy(p, l.data[l.at:])
	if l.at += n; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (l *lineCounter) line() int {
	if l.at > 0 && l.data[l.at-1] != '\n' {
		return l.full + 1
	}
	return l.full
}

// blank overwrites the lines from..to, and on to where their parentheses close.
// Directives stay, but for one that is the fault.
func blank(data []byte, from, to int) {
	line, open, start := 1, 0, 0
	for i := 0; i <= len(data); i++ {
		if i < len(data) && data[i] != '\n' {
			continue
		}
		text := data[start:i]
		if line >= from && (line <= to || open > 0) && (line >= to || len(text) == 0 || text[0] != '$') {
			for k, c := range text {
				switch c {
				case '(':
					open++
				case ')':
					open--
				}
				text[k] = ' '
			}
		}
		if line++; line > to && open <= 0 {
			return
		}
		start = i + 1
	}
}

// add puts one record where it belongs, if it may be there at all. It is then as a packet
// has it: an escape is the letter that it stands for, so that names can be compared.
func (r *reader) add(rec *record) {
	sent, unsent := r.sent(rec.RR)
	if unsent == nil {
		rec.RR = sent
	}
	h := rec.Header()
	name := dns.CanonicalName(h.Name)
	what := fmt.Sprintf("%.128s %s", h.Name, dns.Type(h.Rrtype))
	advice, refused := refusedTypes[h.Rrtype]
	labels := dns.SplitDomainName(name)
	switch apex := name == r.z.apex; {
	case !dns.IsSubDomain(r.z.apex, name):
		r.fault(rec.line, "%s: outside of %s: remove it, or end the name without a dot", what, r.z.apex)
	case h.Class != dns.ClassINET:
		r.fault(rec.line, "%s: class %s: want IN", what, dns.Class(h.Class))
	case refused:
		r.fault(rec.line, "%s: %s", what, advice)
	case dnssec.Signable(h.Rrtype) != nil:
		r.fault(rec.line, "%s: obsolete, and no signer makes its canonical form (RFC 4034 section 6.2): remove it", what)
	case h.Rrtype == dns.TypeNone, h.Rrtype == dns.TypeOPT, 128 <= h.Rrtype && h.Rrtype <= 255: // RFC 6895 section 3.1
		r.fault(rec.line, "%s: a type that no zone holds: remove it", what)
	case unsent != nil:
		r.fault(rec.line, "%s: no packet can hold its data: %v", what, unsent)
	case h.Ttl > 1<<31-1:
		r.fault(rec.line, "%s: TTL %d: want at most 2147483647 (RFC 2181 section 8)", what, h.Ttl)
	case h.Rrtype == dns.TypeSOA && !apex:
		r.fault(rec.line, "%s: want SOA at %s only", what, r.z.apex)
	case h.Rrtype == dns.TypeSOA && r.z.soa != nil:
		r.fault(rec.line, "%s: a second SOA: keep one", what)
	case h.Rrtype == dns.TypeSOA:
		r.z.soa = rec.RR.(*dns.SOA)
	case h.Rrtype == dns.TypeNS && !apex:
		r.fault(rec.line, "%s: a delegation, which this server does not serve: delegate from the parent of %s", what, r.z.apex)
	case apex && h.Rrtype == dns.TypeNAPTR, r.steers(labels):
		r.fault(rec.line, "%s: the server answers for this name itself: remove it", what)
	default:
		r.put(*rec, what, labels)
	}
}

// sent is a record that was sent and read again: the library's text reader takes data
// that its wire writer does not.
func (r *reader) sent(rr dns.RR) (dns.RR, error) {
	n, err := dns.PackRR(rr, r.packet[:], 0, nil, false)
	if err != nil {
		return nil, err
	}
	rr, _, err = dns.UnpackRR(r.packet[:n], 0)
	return rr, err
}

// steers tells whether the name of these labels, or one above it, is the server's.
func (r *reader) steers(labels []string) bool {
	rel := labels[:len(labels)-dns.CountLabel(r.z.apex)]
	for _, s := range steered {
		if n := len(rel) - len(s); n >= 0 && slices.Equal(rel[n:], s) {
			return true
		}
	}
	return slices.ContainsFunc(between, func(s []string) bool { return slices.Equal(rel, s) })
}

func (r *reader) put(rec record, what string, labels []string) {
	at := relative(r.z.apex, rec.Header().Name)
	n := r.z.nodes[at]
	if n == nil {
		if len(r.z.nodes) > maxNames {
			r.fault(rec.line, "%s: more than %d names, with those above it: serve so large a zone elsewhere", what, maxNames)
			return
		}
		n = Node{}
		r.z.nodes[at] = n
		for i := 1; i < len(labels)-dns.CountLabel(r.z.apex); i++ { // empty non-terminals
			above := relative(r.z.apex, dns.Fqdn(strings.Join(labels[i:], ".")))
			if r.z.nodes[above] == nil {
				r.z.nodes[above] = Node{}
			}
		}
	}
	t := rec.Header().Rrtype
	for _, other := range n[t] {
		if dns.IsDuplicate(other, rec.RR) { // a set holds nothing twice (RFC 2181 section 5)
			return
		}
	}
	if set := n[t]; set != nil && set[0].Header().Ttl != rec.Header().Ttl {
		r.fault(rec.line, "%s: TTL %d, and %d before: want one for the whole set (RFC 2181 section 5.2)", what, rec.Header().Ttl, set[0].Header().Ttl)
		return
	}
	set := at + "\x00" + dns.Type(t).String()
	if r.sizes[set] += dns.Len(rec.RR); r.sizes[set] > maxSet {
		r.fault(rec.line, "%s: more than %d octets in one set: no answer can hold them", what, maxSet)
		return
	}
	n[t] = append(n[t], rec.RR)
}

// judge looks at what records say of each other.
func (r *reader) judge(list []record) {
	hasNS := r.z.nodes[apexKey][dns.TypeNS] != nil
	said := map[string]bool{}
	for _, rec := range list {
		h := rec.Header()
		at := relative(r.z.apex, h.Name)
		n := r.z.nodes[at]
		if alias := n[dns.TypeCNAME]; alias != nil && !said[at] && (len(n) > 1 || len(alias) > 1 || at == apexKey) {
			said[at] = true
			r.fault(rec.line, "%.128s: a CNAME beside other records: keep the one or the others (RFC 2181 section 10.1)", h.Name)
		}
		if at == key([]string{"ns1"}) && !hasNS {
			r.fault(rec.line, "%.128s: the server answers for this name itself: remove it, or name every name server with NS records at %s", h.Name, r.z.apex)
		}
		switch rr := rec.RR.(type) {
		case *dns.CNAME:
			if r.circular(rr) {
				r.fault(rec.line, "%.128s CNAME: a loop, or more than %d in a row: point it at the last name", h.Name, MaxChain)
			}
		case *dns.NS:
			r.target(rec, rr.Ns, true)
		case *dns.MX:
			r.target(rec, rr.Mx, false)
		}
	}
}

// target is a name that a record points at, which must be no alias (RFC 2181
// section 10.3), and have an address if a name server's.
func (r *reader) target(rec record, name string, server bool) {
	if !dns.IsSubDomain(r.z.apex, dns.CanonicalName(name)) {
		return
	}
	what := fmt.Sprintf("%.128s %s", rec.Header().Name, dns.Type(rec.Header().Rrtype))
	switch n := r.z.nodes[relative(r.z.apex, name)]; {
	case n[dns.TypeCNAME] != nil:
		r.fault(rec.line, "%s: %.128s is a CNAME: name its target (RFC 2181 section 10.3)", what, name)
	case server && n[dns.TypeA] == nil && n[dns.TypeAAAA] == nil:
		r.fault(rec.line, "%s: %.128s has no address: add an A or AAAA record", what, name)
	}
}

func (r *reader) circular(rr *dns.CNAME) bool {
	for range MaxChain {
		if !dns.IsSubDomain(r.z.apex, dns.CanonicalName(rr.Target)) {
			return false
		}
		n, _, _ := r.z.Find([]byte(relative(r.z.apex, rr.Target)))
		next := n[dns.TypeCNAME]
		if next == nil {
			return false
		}
		rr = next[0].(*dns.CNAME)
	}
	return true
}
