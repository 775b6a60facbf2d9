#!/bin/sh
# Makes the completions of shells: build.sh DIRECTORY PROGRAM, where PROGRAM is a traffic-mirror that runs on this machine.
set -eu
mkdir -p "$1/bash" "$1/zsh" "$1/fish"
"$2" completions bash >"$1/bash/traffic-mirror"
"$2" completions zsh >"$1/zsh/_traffic-mirror"
"$2" completions fish >"$1/fish/traffic-mirror.fish"
