package web

import (
	"time"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A Snapshot is what a controller knows at a moment.
type Snapshot struct {
	Now     time.Time
	Version string
	Owner   string
	Specs   string // the specs directory, or all of them

	Acts   bool   // it is the controller that acts
	Holder string // who does, where that is another one; empty: nobody is known to

	// Engine is why the engine cannot be listed, empty while it can; since when that is so,
	// and when it was listed last, the zero time for never.
	Engine      string
	EngineSince time.Time
	Listed      time.Time

	// Source is why the specs directory is not believed, empty while it is; the
	// commit, or the hash, that was read last, and what was found of the directory itself.
	Source       string
	SourceReason string
	SourceSince  time.Time
	Revision     string
	Subject      string
	Findings     []spec.Finding
	// Sources are all, where there are several.
	Sources []Directory

	// Policy is why the policy file cannot be read, empty while it can or there is none,
	// and since when.
	Policy      string
	PolicySince time.Time
	NoPolicy    bool // there was none before either, and nothing is done

	Prune  *reconcile.Blockade // stacks whose removal waits; nil: none
	Stacks []Stack
}

// A Directory is one of several sources.
type Directory struct {
	Name, Dir         string
	Revision, Subject string
	Scanned           time.Time // when it was read completely last; zero: never
	// Reason, Message and Since are why it is not believed, empty while it is.
	Reason, Message string
	Since           time.Time
}

// A Stack is what is known of one stack.
type Stack struct {
	Name   string
	Source string           // the one that its file is in, where there are several
	Result reconcile.Result // of its newest pass or, without one, as the Swarm tells
	// Passed says that this controller has made a pass over it since it began to act, so
	// that Result knows the file; HasFile that there is one.
	Passed  bool
	HasFile bool
	Glance  reconcile.Glance
}

// A Change is what a release changed against another one, nil for none that is remembered.
type Change struct {
	Against *int
	Plan    reconcile.PlanView
}
