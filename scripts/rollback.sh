#!/bin/sh
# Brings an earlier release back, with its configuration and its secrets.
#
#     scripts/rollback.sh [ENV] [--to RELEASE] [OPTIONS]
#
# ENV is production when it is not given. Without --to it is the release that served before.
# OPTIONS are those of `holdfast rollback`: --dry-run, --wait TIME, -C FOLDER, --json.
set -eu
case " $* " in *' -h '* | *' --help '*) exec sed -n '2,7s/^# \{0,1\}//p' "$0" ;; esac
case ${1:-} in '' | -*) set -- production "$@" ;; esac
exec "$(dirname "$0")/holdfast" rollback "$@"
