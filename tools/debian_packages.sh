#!/usr/bin/env bash
# Downloads Debian packages of another suite than the machine's own, with apt's configuration kept to one folder:
# nothing is installed, and the machine's apt is not touched. For tools that unpack what they need beside the build.
#
#   tools/debian_packages.sh SUITE FOLDER [--alone] PACKAGE…      leaves FOLDER/archives/*.deb
#
# With what the packages depend on, down to libc; --alone: without. The mirror is the one of the machine's own apt
# sources; only its suite is another.
set -euo pipefail
suite=$1
work=$2
shift 2
alone=no
[ "${1:-}" != --alone ] || { alone=yes; shift; }

# The mirror of the suite that the machine itself runs: that is the main one, not the security one.
own=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
    awk -v s="$own" '$1 == s { print $2; exit }')
[ -n "$mirror" ] || { echo "debian_packages.sh: apt knows no source of $own; run: apt-get update" >&2; exit 1; }

chmod 0755 "$work"
mkdir -p "$work"/{lists/partial,archives/partial,parts}
: >"$work/status" # nothing is installed there: apt names all that is needed
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/parts";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work";
Dir::Cache::archives "$work/archives";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
CONF
export APT_CONFIG=$work/apt.conf
apt-get -qq update
if [ $alone = yes ]; then
    (cd "$work/archives" && apt-get -qq download "$@") >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
else
    apt-get -qq install --yes --download-only "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
fi
