package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// curl prints what a URL answers. An answer of 400 or more is an error, as with
// the -f that it is always called with; other options it takes and ignores.
func curl(ctx context.Context, args []string) error {
	url := ""
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			url = a
		}
	}
	if url == "" {
		return errors.New("no URL given")
	}
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("the requested URL returned error: %d", resp.StatusCode)
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
