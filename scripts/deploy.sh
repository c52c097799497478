#!/bin/sh
# Builds and deploys the application to an environment, blue-green, without losing a request.
#
#     scripts/deploy.sh ENV [OPTIONS]
#
# ENV is an environment of holdfast.yml, such as staging or production. OPTIONS are those of
# `holdfast deploy`: --dry-run, --artifact DIGEST, --wait TIME, -C FOLDER, --json.
set -eu
usage() { sed -n '2,7s/^# \{0,1\}//p' "$0"; }
case " $* " in *' -h '* | *' --help '*) usage && exit ;; esac
[ $# -gt 0 ] || { usage >&2 && exit 2; }
exec "$(dirname "$0")/holdfast" deploy "$@"
