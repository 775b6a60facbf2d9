# Makes a page of docs/ ready for go-md2man: -v name=NAME -v section=N -v summary=TEXT [-v synopsis=TEXT].
# A table becomes a list, since a terminal cannot wrap cells; a link keeps its text; a link to another page names it.

function cell(text) {
    gsub(/^[ \t]+|[ \t]+$/, "", text)
    gsub(/\\\|/, "|", text)
    return text
}

function page(text,    before, shown, target, rest) {
    while (match(text, /\[[^]]+\]\([^)]+\)/)) {
        before = substr(text, 1, RSTART - 1)
        rest = substr(text, RSTART + RLENGTH)
        shown = substr(text, RSTART + 1, RLENGTH - 1)
        target = shown
        sub(/\]\(.*/, "", shown)
        sub(/.*\]\(/, "", target)
        sub(/\)$/, "", target)
        text = before shown (target ~ /^https?:/ ? " (" target ")" : "") rest
    }
    return text
}

BEGIN {
    print "% \"" name "\" \"" section "\" \"\" \"traffic-mirror\" \"\"\n"
    print "# NAME\n\n" name " - " summary "\n"
    if (synopsis != "") print "# SYNOPSIS\n\n" synopsis "\n"
    print "# DESCRIPTION\n"
}

/^```/ { is_code = !is_code; print ""; next }
is_code { print "    " $0; next }
/^    / { print; next }
/^# / { next }
/^## / { print toupper(substr($0, 2)); next }
/^### / { print substr($0, 2); next }

/^\|/ {
    line = $0
    sub(/^\|/, "", line)
    sub(/\|[ \t]*$/, "", line)
    gsub(/\\\|/, "\001", line)
    count = split(line, cells, /\|/)
    for (i = 1; i <= count; i++) {
        gsub(/\001/, "|", cells[i])
        cells[i] = page(cell(cells[i]))
    }
    if (!in_table) {
        in_table = 1
        for (i = 1; i <= count; i++) heads[i] = cells[i]
        next
    }
    if (cells[1] ~ /^:?-+:?$/) next
    meaning = cells[count]
    if (meaning != "" && meaning !~ /[.:!?]$/) meaning = meaning "."
    print cells[1] "\n: " (count > 1 ? meaning : "")
    for (i = 2; i < count; i++)
        if (cells[i] != "") print "  " toupper(substr(heads[i], 1, 1)) substr(heads[i], 2) ": " cells[i] "."
    print ""
    next
}

{ in_table = 0; print page($0) }
