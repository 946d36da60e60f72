#include "http/message.hpp"

#include "base/text.hpp"

#include <algorithm>

namespace cooper::http {

void Headers::add(std::string name, std::string value) { fields_.emplace_back(std::move(name), std::move(value)); }

void Headers::set(std::string_view name, std::string value) {
    remove(name);
    add(std::string(name), std::move(value));
}

void Headers::remove(std::string_view name) {
    std::erase_if(fields_, [&](const auto& field) { return equal_ignoring_case(field.first, name); });
}

std::optional<std::string> Headers::find(std::string_view name) const {
    const auto found =
        std::ranges::find_if(fields_, [&](const auto& field) { return equal_ignoring_case(field.first, name); });
    if (found == fields_.end()) return std::nullopt;
    return found->second;
}

std::vector<std::string> Headers::find_all(std::string_view name) const {
    std::vector<std::string> values;
    for (const auto& [key, value] : fields_) {
        if (equal_ignoring_case(key, name)) values.push_back(value);
    }
    return values;
}

std::string_view method_name(Method method) {
    switch (method) {
        case Method::get:
            return "GET";
        case Method::head:
            return "HEAD";
        case Method::post:
            return "POST";
        case Method::put:
            return "PUT";
        case Method::patch:
            return "PATCH";
        case Method::del:
            return "DELETE";
    }
    UNREACHABLE();
}

Body text_body(std::string text) {
    const std::size_t size = text.size();
    return Body{.size_bytes = size, .open = [text = std::move(text)]() -> Result<std::unique_ptr<ByteSource>> {
                    return std::make_unique<StringSource>(text);
                }};
}

}  // namespace cooper::http
