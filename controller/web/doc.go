// Package web shows people and programs what a controller knows: pages of HTML, and
// the same as JSON under /api/v1/.
//
//	controller ──► Snapshot ──► Board, StackPage ──► HTML, JSON
//
// What is shown is a pure function of a Snapshot, time included. Nothing here changes
// anything, asks the engine for anything, or repeats what a client sent; and no text of
// a Snapshot is trusted: all of it goes through html/template or encoding/json. Pages
// need no script; where there is one, it fetches the same page again when it changed.
package web
