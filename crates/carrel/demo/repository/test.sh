#!/bin/sh
# Runs all tests; exits with 1 when one fails.
cd "$(dirname "$0")" || exit 1
. ./temperature.sh
passed=0
failed=0

expect() {
  if [ "$2" = "$3" ]; then
    passed=$((passed + 1))
    echo "ok    $1"
  else
    failed=$((failed + 1))
    echo "FAIL  $1: expected $2, got $3"
  fi
}

expect "water freezes at 32 F" 32 "$(celsius_to_fahrenheit 0)"
expect "water boils at 212 F" 212 "$(celsius_to_fahrenheit 100)"
expect "32 F is 0 C" 0 "$(fahrenheit_to_celsius 32)"
expect "212 F is 100 C" 100 "$(fahrenheit_to_celsius 212)"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
