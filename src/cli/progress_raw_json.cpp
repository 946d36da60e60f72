#include "cli/progress_raw_json.hpp"

#include "codec/base64.hpp"

#include <nlohmann/json.hpp>
#include <unistd.h>

namespace cooper::cli {

namespace {

using nlohmann::json;

json to_json(const VertexEvent& event) {
    json vertex = {{"digest", event.digest.to_string()}, {"name", event.name}};
    for (const auto& input : event.inputs) vertex["inputs"].push_back(input.to_string());
    if (event.started) vertex["started"] = format_rfc3339(*event.started);
    if (event.completed) vertex["completed"] = format_rfc3339(*event.completed);
    if (event.cached) vertex["cached"] = true;
    if (!event.error.empty()) vertex["error"] = event.error;
    if (event.group) vertex["progressGroup"] = {{"id", event.group->id}, {"name", event.group->name}};
    return {{"vertexes", json::array({vertex})}};
}

json to_json(const StatusEvent& event) {
    json status = {{"id", event.id},       {"vertex", event.vertex.to_string()},
                   {"name", event.name},   {"current", event.current},
                   {"total", event.total}, {"timestamp", format_rfc3339(event.timestamp)}};
    if (event.started) status["started"] = format_rfc3339(*event.started);
    if (event.completed) status["completed"] = format_rfc3339(*event.completed);
    return {{"statuses", json::array({status})}};
}

json to_json(const LogEvent& event) {
    return {{"logs", json::array({{{"vertex", event.vertex.to_string()},
                                   {"stream", event.stream},
                                   {"data", codec::base64_encode(event.data)},
                                   {"timestamp", format_rfc3339(event.timestamp)}}})}};
}

json to_json(const WarningEvent& event) {
    json warning = {{"vertex", event.vertex.to_string()},
                    {"level", event.level},
                    {"short", codec::base64_encode(event.short_text)}};
    for (const auto& line : event.detail) warning["detail"].push_back(codec::base64_encode(line));
    if (!event.url.empty()) warning["url"] = event.url;
    if (event.range) {
        warning["range"] = json::array(
            {{{"start", {{"line", event.range->first_line}}}, {"end", {{"line", event.range->last_line}}}}});
    }
    return {{"warnings", json::array({warning})}};
}

}  // namespace

void RawJsonProgress::emit(ProgressEvent event) {
    const json value = std::visit([](const auto& e) { return to_json(e); }, event);
    const std::string line = value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
    const auto order = order_.lock();
    std::string_view rest = line;
    while (!rest.empty()) {
        const ssize_t n = ::write(fd_, rest.data(), rest.size());
        if (n <= 0) return;
        rest.remove_prefix(static_cast<std::size_t>(n));
    }
}

}  // namespace cooper::cli
