package quality

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// What the callers' cameras show. Chromium makes three layers of it; fewer of less.
const (
	cameraWidth, cameraHeight, cameraFPS = 960, 540, 15
	lowest                               = cameraWidth / 3 // the smallest layer of either is no wider
)

// media makes what microphones hear and cameras see: a voice as far as codecs know, and a
// picture with as much to say as a face before a bookcase. Chromium's own fakes are a beep and
// a clock, for which no network is too bad.
func media(t *testing.T, people int) (sound, picture string) {
	t.Helper()
	dir := t.TempDir()
	sound, picture = filepath.Join(dir, "voice.wav"), filepath.Join(dir, "face.y4m")
	for path, b := range map[string][]byte{sound: voice(), picture: face(people)} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return sound, picture
}

// voice is 20 s of a buzz through three formants that move, in syllables with short pauses.
func voice() []byte {
	const hz, seconds = 48000, 20
	dice := rand.New(rand.NewPCG(1, 2))
	samples := make([]byte, 0, 2*hz*seconds)
	var low, high [3]float64
	formants := [3]float64{500, 1500, 2500}
	next, loud, phase := 0, 0.0, 0.0
	for n := range hz * seconds {
		if n == next {
			next += hz/8 + dice.IntN(hz/6)
			loud = 0.3 + 0.7*dice.Float64()
			if dice.IntN(5) == 0 {
				loud = 0
			}
			formants = [3]float64{300 + 500*dice.Float64(), 900 + 1300*dice.Float64(), 2300 + 700*dice.Float64()}
		}
		phase += (110 + 20*math.Sin(float64(n)/hz*2)) / hz
		buzz := phase - math.Floor(phase) - 0.5 + 0.05*(dice.Float64()-0.5)
		v := 0.0
		for i, f := range formants { // a state-variable filter each
			k := 2 * math.Sin(math.Pi*f/hz)
			low[i] += k * high[i]
			high[i] += k * (buzz - low[i] - 0.1*high[i])
			v += high[i]
		}
		samples = binary.LittleEndian.AppendUint16(samples, uint16(int16(max(-32000, min(32000, 6000*loud*v)))))
	}
	head := []byte("RIFF\x00\x00\x00\x00WAVEfmt ")
	binary.LittleEndian.PutUint32(head[4:], uint32(36+len(samples)))
	for _, v := range []any{uint32(16), uint16(1), uint16(1), uint32(hz), uint32(2 * hz), uint16(2), uint16(16)} {
		head, _ = binary.Append(head, binary.LittleEndian, v)
	}
	head = binary.LittleEndian.AppendUint32(append(head, "data"...), uint32(len(samples)))
	return append(head, samples...)
}

// face is 4 s of texture that sways, with grain: of half the size where more than two call, for
// each of whom this machine encodes three layers.
func face(people int) []byte {
	dice := rand.New(rand.NewPCG(3, 4))
	frames, width, height := 4*cameraFPS, cameraWidth, cameraHeight
	if people > 2 {
		width, height = width/2, height/2
	}
	out := fmt.Appendf(nil, "YUV4MPEG2 W%d H%d F%d:1 Ip A1:1 C420\n", width, height, cameraFPS)
	var table [1024]float64
	for i := range table {
		table[i] = math.Sin(2 * math.Pi * float64(i) / float64(len(table)))
	}
	sine := func(x float64) float64 { return table[int(x*163)&1023] }
	for n := range frames {
		out = append(out, "FRAME\n"...)
		sway := 12 * math.Sin(2*math.Pi*float64(n)/float64(frames)*2)
		for y := range height {
			for x := range width {
				v := 128 + 40*sine(4+(float64(x)+sway)/23+sine(100+float64(y)/41)) + 30*sine(200+float64(y)/7+(float64(x)+sway)/61)
				out = append(out, byte(v+float64(dice.IntN(9))))
			}
		}
		for range width * height / 2 {
			out = append(out, 120)
		}
	}
	return out
}
