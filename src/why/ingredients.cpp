#include "why/ingredients.hpp"

#include <nlohmann/json.hpp>

namespace cooper::why {

namespace {

std::string text_field(const nlohmann::json& json, const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool flag_field(const nlohmann::json& json, const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_boolean() && found->get<bool>();
}

template <class Read>
void each_object(const nlohmann::json& json, const char* key, Read read) {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_array()) return;
    for (const auto& item : *found) {
        if (item.is_object()) read(item);
    }
}

}  // namespace

std::string to_json(const Ingredients& from) {
    nlohmann::json json;
    json["builder"] = from.builder;
    json["project"] = from.project;
    json["name"] = from.name;
    json["kind"] = from.kind;
    json["text"] = from.text;
    json["result"] = from.result;
    if (!from.ending.empty()) json["ending"] = from.ending;
    if (!from.stopped_by.empty()) json["stoppedBy"] = from.stopped_by;
    for (const auto& value : from.values) json["values"].push_back({{"n", value.name}, {"v", value.value}});
    for (const auto& variable : from.variables) {
        json["variables"].push_back({{"n", variable.name},
                                     {"arg", variable.is_argument},
                                     {"d", variable.definition},
                                     {"g", variable.given},
                                     {"is", variable.is_given}});
    }
    for (const auto& input : from.inputs) {
        json["inputs"].push_back({{"step", input.step},
                                  {"local", input.is_local},
                                  {"image", input.image},
                                  {"digest", input.digest},
                                  {"state", input.state},
                                  {"content", input.content},
                                  {"files", input.files}});
    }
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::optional<Ingredients> parse_ingredients(std::string_view text) {
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object()) return std::nullopt;
    Ingredients out;
    out.builder = text_field(json, "builder");
    out.project = text_field(json, "project");
    out.name = text_field(json, "name");
    out.kind = text_field(json, "kind");
    out.text = text_field(json, "text");
    out.result = text_field(json, "result");
    out.ending = text_field(json, "ending");
    out.stopped_by = text_field(json, "stoppedBy");
    each_object(json, "values", [&](const nlohmann::json& item) {
        out.values.push_back({text_field(item, "n"), text_field(item, "v")});
    });
    each_object(json, "variables", [&](const nlohmann::json& item) {
        out.variables.push_back({text_field(item, "n"), flag_field(item, "arg"), text_field(item, "d"),
                                 text_field(item, "g"), flag_field(item, "is")});
    });
    each_object(json, "inputs", [&](const nlohmann::json& item) {
        out.inputs.push_back({text_field(item, "step"), flag_field(item, "local"), text_field(item, "image"),
                              text_field(item, "digest"), text_field(item, "state"), text_field(item, "content"),
                              text_field(item, "files")});
    });
    return out;
}

}  // namespace cooper::why
