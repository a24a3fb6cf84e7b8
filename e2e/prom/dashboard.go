package prom

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// A Panel is what a dashboard shows in one place.
type Panel struct {
	Title   string
	Kind    string // as Grafana calls it
	Place   [4]int // x, y, width and height
	Queries []DashboardQuery
}

// A DashboardQuery is one that a dashboard asks.
type DashboardQuery struct {
	Expr    string
	Instant bool
}

// A Dashboard is what is in a file of Grafana's.
type Dashboard struct {
	UID, Title string
	Panels     []Panel
	// Annotations are queries whose moments are marked; Variables are those of
	// label_values, by the variable's name.
	Annotations []string
	Variables   map[string]string
}

// ReadDashboard reads a dashboard's file. It is an error where a panel has no query.
func ReadDashboard(file string) (*Dashboard, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var d struct {
		UID    string `json:"uid"`
		Title  string `json:"title"`
		Panels []struct {
			Title   string `json:"title"`
			Type    string `json:"type"`
			GridPos struct{ X, Y, W, H int }
			Targets []struct {
				Expr    string `json:"expr"`
				Instant bool   `json:"instant"`
			} `json:"targets"`
		} `json:"panels"`
		Annotations struct {
			List []struct {
				Expr string `json:"expr"`
			} `json:"list"`
		} `json:"annotations"`
		Templating struct {
			List []struct {
				Name       string `json:"name"`
				Type       string `json:"type"`
				Definition string `json:"definition"`
			} `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("read dashboard %s: %w", file, err)
	}
	out := &Dashboard{UID: d.UID, Title: d.Title, Variables: map[string]string{}}
	for _, p := range d.Panels {
		panel := Panel{Title: p.Title, Kind: p.Type, Place: [4]int{p.GridPos.X, p.GridPos.Y, p.GridPos.W, p.GridPos.H}}
		for _, t := range p.Targets {
			panel.Queries = append(panel.Queries, DashboardQuery{t.Expr, t.Instant})
		}
		if p.Type != "row" && len(panel.Queries) == 0 {
			return nil, fmt.Errorf("read dashboard %s: panel %q has no query", file, p.Title)
		}
		out.Panels = append(out.Panels, panel)
	}
	for _, a := range d.Annotations.List {
		out.Annotations = append(out.Annotations, a.Expr)
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			out.Variables[v.Name] = v.Definition
		}
	}
	return out, nil
}

// Fill puts values in the place of a query's variables, as Grafana does: the job, the
// stacks (a regular expression), how far a step is, and how far the whole picture goes.
func Fill(query, job, stacks string, step, whole time.Duration) string {
	seconds := func(d time.Duration) string { return fmt.Sprintf("%ds", int(d.Seconds())) }
	return strings.NewReplacer("$job", job, "$stack", stacks,
		"$__rate_interval", seconds(max(step, 4*ScrapeEvery)), "$__interval", seconds(step), "$__range", seconds(whole)).Replace(query)
}
