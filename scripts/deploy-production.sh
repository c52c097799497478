#!/bin/sh
# Builds and deploys the application to production, blue-green, without losing a request.
#
#     scripts/deploy-production.sh [OPTIONS]
#
# OPTIONS are those of `holdfast deploy`: --dry-run, --artifact DIGEST, --wait TIME, -C FOLDER, --json.
set -eu
case " $* " in *' -h '* | *' --help '*) exec sed -n '2,6s/^# \{0,1\}//p' "$0" ;; esac
exec "$(dirname "$0")/holdfast" deploy production "$@"
