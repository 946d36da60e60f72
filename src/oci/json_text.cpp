#include "oci/json_text.hpp"

namespace cooper::oci {

Result<> check_json_bounds(std::string_view json, std::size_t max_bytes, std::string_view what) {
    if (json.size() > max_bytes)
        return bad_input("{} is {} bytes, more than the {} allowed", what, json.size(), max_bytes);
    std::size_t depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < json.size(); ++i) {
        const char c = json[i];
        if (in_string) {
            if (c == '\\') ++i;
            if (c == '"') in_string = false;
            continue;
        }
        if (c == '"') in_string = true;
        if (c == '{' || c == '[') {
            if (++depth > kMaxJsonDepth) return bad_input("{} nests deeper than {} levels", what, kMaxJsonDepth);
        }
        if ((c == '}' || c == ']') && depth > 0) --depth;
    }
    return {};
}

std::string go_escape(std::string_view json) {
    std::string out;
    out.reserve(json.size() + 16);
    for (std::size_t i = 0; i < json.size(); ++i) {
        const char c = json[i];
        if (c == '<') {
            out += "\\u003c";
        } else if (c == '>') {
            out += "\\u003e";
        } else if (c == '&') {
            out += "\\u0026";
        } else if (json.substr(i).starts_with("\xe2\x80\xa8")) {
            out += "\\u2028";
            i += 2;
        } else if (json.substr(i).starts_with("\xe2\x80\xa9")) {
            out += "\\u2029";
            i += 2;
        } else {
            out += c;
        }
    }
    return out;
}

}  // namespace cooper::oci
