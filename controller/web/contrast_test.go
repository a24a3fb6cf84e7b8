package web

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// colours reads the variables of the style sheet, light and dark.
func colours(t *testing.T) map[string]map[string]string {
	t.Helper()
	sheet := string(styleSheet)
	light, rest, ok := strings.Cut(sheet, "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("there is no dark scheme")
	}
	dark, _, _ := strings.Cut(rest, "\n}\n")
	read := func(text string) map[string]string {
		out := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(text, -1) {
			out[m[1]] = m[2]
		}
		return out
	}
	all := map[string]map[string]string{"light": read(light), "dark": read(dark)}
	if len(all["light"]) < 20 || len(all["light"]) != len(all["dark"]) {
		t.Fatalf("%d light colours and %d dark ones", len(all["light"]), len(all["dark"]))
	}
	return all
}

// luminance is WCAG 2's.
func luminance(colour string) float64 {
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, _ := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

func contrast(a, b string) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// TestContrast holds text to 4.5:1 against what it stands on, and what is drawn to 3:1
// (WCAG 2.2, 1.4.3 and 1.4.11).
func TestContrast(t *testing.T) {
	for scheme, c := range colours(t) {
		check := func(least float64, fronts, backs string) {
			for front := range strings.FieldsSeq(fronts) {
				for back := range strings.FieldsSeq(backs) {
					if c[front] == "" || c[back] == "" {
						t.Fatalf("no colour %s or %s", front, back)
					}
					if got := contrast(c[front], c[back]); got < least {
						t.Errorf("%s: %s on %s has %.2f:1, less than %.1f:1", scheme, front, back, got, least)
					}
				}
			}
		}
		check(4.5, "text soft link good warn bad", "page card")
		check(4.5, "text good", "good-back")
		check(4.5, "text soft busy link", "busy-back")
		check(4.5, "text warn", "warn-back bake")
		check(4.5, "text bad", "bad-back")
		check(3, "sq-running sq-old sq-failed sq-starting before new back", "card")
		check(3, "soft", "card page") // what goes round an input
		check(3, "honey", "page")
	}
	if got := contrast("#ffffff", "#767676"); math.Abs(got-4.54) > 0.01 {
		t.Errorf("white on #767676 has %.2f:1, and should have 4.54:1", got)
	}
}
