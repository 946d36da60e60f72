// JSON of strangers: of bounded depth, and whatever is missing or of another kind is empty. Heavy; for .cpp files.
#pragma once

#include "attest/packages.hpp"
#include "base/text.hpp"

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace cooper::attest::detail {

// An empty object for what is no JSON object.
[[nodiscard]] inline nlohmann::json parse_json(std::string_view text) {
    const auto too_deep = [](int depth, nlohmann::json::parse_event_t /*event*/, nlohmann::json& /*parsed*/) {
        return depth < 64;
    };
    auto json = nlohmann::json::parse(text, too_deep, false);
    return json.is_object() ? json : nlohmann::json::object();
}

[[nodiscard]] inline std::string text_of(const nlohmann::json& object, const char* key) {
    if (!object.is_object()) return {};
    const auto found = object.find(key);
    if (found == object.end() || !found->is_string()) return {};
    return std::string(trim(std::string_view(found->get_ref<const std::string&>()).substr(0, kMaxField)));
}

[[nodiscard]] inline Package package_of(const char* type, std::string name, std::string version) {
    return {.type = type,
            .space = {},
            .name = std::move(name),
            .version = std::move(version),
            .architecture = {},
            .license = {},
            .distro = {},
            .path = {},
            .layer = {}};
}

}  // namespace cooper::attest::detail
