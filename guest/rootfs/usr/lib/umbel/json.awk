# Prints every string, number and literal of a JSON document as path<TAB>value, one a line: `networks/0/type<TAB>ipv4`.
# Newlines and tabs inside values become spaces; \u escapes beyond ASCII become `?`: enough for names, keys, addresses.
BEGIN { RS = "\001" }
{
    text = $0
    depth = 0
    while (length(text) > 0) {
        first = substr(text, 1, 1)
        if (first == "{" || first == "[") { depth++; list[depth] = first == "["; at[depth] = 0; text = substr(text, 2) }
        else if (first == "}" || first == "]") { depth--; text = substr(text, 2) }
        else if (first == ",") { at[depth]++; text = substr(text, 2) }
        else if (first == "\"") word(string())
        else if (match(text, /^[-+.0-9a-zA-Z]+/)) { literal = substr(text, 1, RLENGTH); text = substr(text, RLENGTH + 1); say(literal) }
        else text = substr(text, 2)
    }
}

# A string is the name of a member if a colon follows.
function word(value) {
    if (!list[depth] && match(text, /^[ \t\r\n]*:/)) { name[depth] = value; text = substr(text, RLENGTH + 1); return }
    say(value)
}

function say(value,    path, level) {
    for (level = 1; level <= depth; level++) path = path (level > 1 ? "/" : "") (list[level] ? at[level] : name[level])
    print path "\t" value
}

# Takes the string at the head of the text.
function string(    value, part, code) {
    text = substr(text, 2)
    while (match(text, /^[^"\\]*/) >= 0) {
        value = value substr(text, 1, RLENGTH)
        text = substr(text, RLENGTH + 1)
        part = substr(text, 1, 1)
        if (part != "\\") { text = substr(text, 2); break }
        code = substr(text, 2, 1)
        if (code == "u") {
            value = value ascii(substr(text, 3, 4))
            text = substr(text, 7)
        } else {
            value = value (code ~ /[nrtbf]/ ? " " : code)
            text = substr(text, 3)
        }
    }
    gsub(/[\t\r\n]/, " ", value)
    sub(/ +$/, "", value)
    return value
}

function ascii(hex,    number, digit, place) {
    for (place = 1; place <= 4; place++) {
        digit = index("0123456789abcdef", tolower(substr(hex, place, 1))) - 1
        number = number * 16 + digit
    }
    return number >= 32 && number < 127 ? sprintf("%c", number) : "?"
}
