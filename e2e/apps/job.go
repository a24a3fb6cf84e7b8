package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// job stands for a migration: it works for APP_TAKES, and then ends with the exit
// code APP_EXIT, by default 0.
func job(ctx context.Context, _ []string) error {
	var (
		takes time.Duration
		exit  int
	)
	if err := errors.Join(read(os.Getenv, "APP_TAKES", &takes, time.ParseDuration), read(os.Getenv, "APP_EXIT", &exit, strconv.Atoi)); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "working, for", takes)
	if err := pause(ctx, takes); err != nil {
		return fmt.Errorf("told to stop before it was done: %w", err)
	}
	if exit != 0 {
		fmt.Fprintln(os.Stderr, "job: failing, as APP_EXIT says")
		os.Exit(exit)
	}
	return nil
}
