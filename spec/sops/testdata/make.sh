#!/bin/sh
# Makes sealed/ of plain/ with the program sops, and opened/ of that. The key is the
# one in key.txt, or those of it and another.
set -e
cd "$(dirname "$0")"
a=$(sed -n 's/^# public key: //p' key.txt) b=$(sed -n 's/^# public key: //p' other.txt) pq=$(sed -n 's/^# public key: //p' pq.txt)
export SOPS_AGE_KEY_FILE="$PWD/.keys.txt" SOPS_DISABLE_VERSION_CHECK=1
cat key.txt pq.txt >.keys.txt
trap 'rm -f .keys.txt .rules.yaml' EXIT
seal() { # NAME OF [FLAGS]
	to=sealed/$1 from=plain/$2
	shift 2
	sops encrypt "$@" "$from" >"$to"
	sops decrypt "$to" >"opened/${to#sealed/}"
}
ruled() { # NAME OF [RULE]: what no flag says
	printf 'creation_rules: [{age: %s%s}]\n' "$a" "$3" >.rules.yaml
	sops --config .rules.yaml encrypt "plain/$2" >"sealed/$1"
	rm .rules.yaml
	sops decrypt "sealed/$1" >"opened/$1"
}
rm -f sealed/* opened/*
for f in types.yaml documents.yaml types.json app.env blob.bin; do seal $f $f --age "$a"; done
seal two.yaml types.yaml --age "$b,$a"
ruled mac-only.yaml types.yaml ", mac_only_encrypted: true"
seal unencrypted-regex.yaml rules.yaml --age "$a" --unencrypted-regex '^(apiVersion|kind|metadata)$'
seal encrypted-regex.yaml rules.yaml --age "$a" --encrypted-regex '^data$'
seal encrypted-suffix.yaml rules.yaml --age "$a" --encrypted-suffix _sec
seal unencrypted-suffix.yaml rules.yaml --age "$a" --unencrypted-suffix _sec
ruled mac-only-regex.yaml rules.yaml ", mac_only_encrypted: true, encrypted_regex: '^data\$'"
ruled encrypted-comment.yaml comments.yaml ", encrypted_comment_regex: 'sops:enc'"
ruled unencrypted-comment.yaml comments.yaml ", unencrypted_comment_regex: 'sops:enc'"
ruled encrypted-regex.env app.env ", mac_only_encrypted: true, encrypted_regex: '^(ALPHA|MULTI)\$'"
seal pq.yaml rules.yaml --age "$pq"
age -r "$a" -r "$b" plain/app.env >sealed/app.env.age
age -a -r "$a" plain/blob.bin >sealed/blob.armored
cp plain/app.env opened/app.env.age
cp plain/blob.bin opened/blob.armored
