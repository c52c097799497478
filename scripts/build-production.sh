#!/bin/sh
# Builds the application for production: a signed artifact, whose digest is printed.
#
#     scripts/build-production.sh [OPTIONS]
#
# OPTIONS are those of `holdfast build`, such as -C FOLDER or --json. Nothing is deployed;
# `scripts/deploy.sh production --artifact DIGEST` does that.
set -eu
case " $* " in *' -h '* | *' --help '*) exec sed -n '2,7s/^# \{0,1\}//p' "$0" ;; esac
exec "$(dirname "$0")/holdfast" build production "$@"
