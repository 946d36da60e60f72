#include "llb/detail/go_text.hpp"

namespace cooper::llb::detail {

std::string json_array(const std::vector<std::string>& values) {
    if (values.empty()) return {};
    std::string out = "[";
    for (const std::string& value : values) {
        if (out.size() > 1) out += ',';
        codec::append_go_json_string(out, value);
    }
    return out + "]";
}

std::string json_list(const std::vector<std::string>& elements) {
    std::string out = "[";
    for (const std::string& element : elements) {
        if (out.size() > 1) out += ',';
        out += element;
    }
    return out + "]";
}

void GoObject::text_map(std::string_view name, const std::map<std::string, std::string>& values) {
    if (values.empty()) return;
    GoObject inner;
    for (const auto& [key, value] : values) inner.always_text(key, value);
    always_raw(name, inner.take());
}

}  // namespace cooper::llb::detail
