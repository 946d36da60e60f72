#include "base/text.hpp"
#include "inside/compare.hpp"

#include <map>
#include <nlohmann/json.hpp>

namespace cooper::inside {

namespace {

using nlohmann::json;

constexpr int kMaxDepth = 8;

std::string plain(const json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, json::error_handler_t::replace);
}

void flatten(const json& value, const std::string& name, int depth, std::map<std::string, std::string>& out) {
    if (value.is_object() && depth < kMaxDepth) {
        for (const auto& [key, inner] : value.items())
            flatten(inner, name.empty() ? key : name + "." + key, depth + 1, out);
        return;
    }
    out[name] = plain(value);
}

std::map<std::string, std::string> fields_of(const oci::ImageConfig& config) {
    json whole = json::parse(oci::marshal_image_config(config), nullptr, false);
    std::map<std::string, std::string> out;
    if (!whole.is_object()) return out;
    // Layers and history are not what a container is started with; the build's time is told by the files.
    for (const char* name : {"rootfs", "history", "created", "moby.buildkit.cache.v0"}) whole.erase(name);
    // Lists of NAME=VALUE and of names read better one by one.
    json& inner = whole["config"];
    if (inner.is_object() && inner.contains("Env") && inner["Env"].is_array()) {
        json variables = json::object();
        for (const auto& one : inner["Env"]) {
            if (!one.is_string()) continue;
            const auto [name, value] = cut(one.get_ref<const std::string&>(), '=');
            variables[std::string(name)] = std::string(value.value_or(""));
        }
        inner["Env"] = std::move(variables);
    }
    flatten(whole, "", 0, out);
    std::erase_if(out, [](const auto& field) { return field.second == "null"; });
    return out;
}

}  // namespace

std::vector<ConfigChange> config_changes(const oci::ImageConfig& before, const oci::ImageConfig& after) {
    const auto old = fields_of(before);
    const auto now = fields_of(after);
    std::vector<ConfigChange> changes;
    for (const auto& [name, value] : old) {
        const auto other = now.find(name);
        if (other == now.end()) {
            changes.push_back({.field = name, .before = value, .after = std::nullopt});
        } else if (other->second != value) {
            changes.push_back({.field = name, .before = value, .after = other->second});
        }
    }
    for (const auto& [name, value] : now) {
        if (!old.contains(name)) changes.push_back({.field = name, .before = std::nullopt, .after = value});
    }
    std::ranges::sort(changes, {}, &ConfigChange::field);
    return changes;
}

}  // namespace cooper::inside
