#include "oci/image_config.hpp"

#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "oci/detail/json_fields.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace cooper::oci {
namespace {

using detail::Json;

constexpr std::size_t kMaxLayers = 10'000;
constexpr std::array<std::string_view, 10> kTopFields{"created",     "author",  "architecture", "os",     "os.version",
                                                      "os.features", "variant", "config",       "rootfs", "history"};

Result<Healthcheck> healthcheck_from(const Json& object) {
    if (!object.is_object()) return bad_input("field \"Healthcheck\" must be an object");
    Healthcheck check;
    TRY(detail::read(object, "Test", check.test));
    TRY(detail::read(object, "Interval", check.interval_ns));
    TRY(detail::read(object, "Timeout", check.timeout_ns));
    TRY(detail::read(object, "StartPeriod", check.start_period_ns));
    TRY(detail::read(object, "StartInterval", check.start_interval_ns));
    TRY(detail::read(object, "Retries", check.retries));
    return check;
}

Json to_json(const Healthcheck& check) {
    Json object = Json::object();
    if (!check.test.empty()) object["Test"] = check.test;
    if (check.interval_ns != 0) object["Interval"] = check.interval_ns;
    if (check.timeout_ns != 0) object["Timeout"] = check.timeout_ns;
    if (check.start_period_ns != 0) object["StartPeriod"] = check.start_period_ns;
    if (check.start_interval_ns != 0) object["StartInterval"] = check.start_interval_ns;
    if (check.retries != 0) object["Retries"] = check.retries;
    return object;
}

Result<ContainerConfig> container_from(const Json& object) {
    if (!object.is_object()) return bad_input("field \"config\" must be an object");
    ContainerConfig config;
    TRY(detail::read(object, "User", config.user));
    TRY(detail::read_set(object, "ExposedPorts", config.exposed_ports));
    TRY(detail::read(object, "Env", config.env));
    TRY(detail::read(object, "Entrypoint", config.entrypoint));
    TRY(detail::read(object, "Cmd", config.cmd));
    TRY(detail::read_set(object, "Volumes", config.volumes));
    TRY(detail::read(object, "WorkingDir", config.working_dir));
    TRY(detail::read(object, "Labels", config.labels));
    TRY(detail::read(object, "StopSignal", config.stop_signal));
    TRY(detail::read(object, "ArgsEscaped", config.args_escaped));
    if (const Json* check = detail::field(object, "Healthcheck")) config.healthcheck = TRY(healthcheck_from(*check));
    TRY(detail::read(object, "OnBuild", config.on_build));
    if (detail::field(object, "StopTimeout")) {
        std::int64_t seconds = 0;
        TRY(detail::read(object, "StopTimeout", seconds));
        config.stop_timeout = seconds;
    }
    TRY(detail::read(object, "Shell", config.shell));
    return config;
}

Json set_json(const std::set<std::string>& names) {
    Json object = Json::object();
    for (const std::string& name : names) object[name] = Json::object();
    return object;
}

Json to_json(const ContainerConfig& config) {
    Json object = Json::object();
    if (!config.user.empty()) object["User"] = config.user;
    if (!config.exposed_ports.empty()) object["ExposedPorts"] = set_json(config.exposed_ports);
    if (!config.env.empty()) object["Env"] = config.env;
    if (!config.entrypoint.empty()) object["Entrypoint"] = config.entrypoint;
    if (!config.cmd.empty()) object["Cmd"] = config.cmd;
    if (!config.volumes.empty()) object["Volumes"] = set_json(config.volumes);
    if (!config.working_dir.empty()) object["WorkingDir"] = config.working_dir;
    if (!config.labels.empty()) object["Labels"] = config.labels;
    if (!config.stop_signal.empty()) object["StopSignal"] = config.stop_signal;
    if (config.args_escaped) object["ArgsEscaped"] = true;
    if (config.healthcheck) object["Healthcheck"] = to_json(*config.healthcheck);
    if (!config.on_build.empty()) object["OnBuild"] = config.on_build;
    if (config.stop_timeout) object["StopTimeout"] = *config.stop_timeout;
    if (!config.shell.empty()) object["Shell"] = config.shell;
    return object;
}

Result<std::optional<std::string>> optional_text(const Json& object, const char* key) {
    if (!detail::field(object, key)) return std::optional<std::string>();
    std::string text;
    TRY(detail::read(object, key, text));
    return std::optional(std::move(text));
}

Result<std::vector<HistoryEntry>> history_from(const Json& list) {
    if (!list.is_array()) return bad_input("field \"history\" must be a list");
    if (list.size() > kMaxLayers) return bad_input("the image has more than {} history entries", kMaxLayers);
    std::vector<HistoryEntry> history;
    history.reserve(list.size());
    for (const Json& item : list) {
        if (!item.is_object()) return bad_input("history[{}] must be an object", history.size());
        HistoryEntry entry;
        entry.created = TRY(optional_text(item, "created"));
        TRY(detail::read(item, "created_by", entry.created_by));
        TRY(detail::read(item, "author", entry.author));
        TRY(detail::read(item, "comment", entry.comment));
        TRY(detail::read(item, "empty_layer", entry.empty_layer));
        history.push_back(std::move(entry));
    }
    return history;
}

Json history_json(const std::vector<HistoryEntry>& history) {
    Json list = Json::array();
    for (const HistoryEntry& entry : history) {
        Json object = Json::object();
        if (entry.created) object["created"] = *entry.created;
        if (!entry.created_by.empty()) object["created_by"] = entry.created_by;
        if (!entry.author.empty()) object["author"] = entry.author;
        if (!entry.comment.empty()) object["comment"] = entry.comment;
        if (entry.empty_layer) object["empty_layer"] = true;
        list.push_back(std::move(object));
    }
    return list;
}

Result<> read_rootfs(const Json& object, ImageConfig& config) {
    if (!object.is_object()) return bad_input("field \"rootfs\" must be an object");
    TRY(detail::read(object, "type", config.rootfs_type));
    std::vector<std::string> diff_ids;
    TRY(detail::read(object, "diff_ids", diff_ids));
    for (const std::string& text : diff_ids) {
        config.diff_ids.push_back(TRY_CONTEXT(Digest::parse(text), "rootfs.diff_ids[{}]", config.diff_ids.size()));
    }
    return {};
}

}  // namespace

Result<ImageConfig> parse_image_config(std::string_view json) {
    const Json object = TRY(detail::parse_object(json, kMaxImageConfigBytes, "image config"));
    ImageConfig config;
    config.created = TRY(optional_text(object, "created"));
    TRY(detail::read(object, "author", config.author));
    config.platform = TRY(detail::platform_from(object));
    if (const Json* container = detail::field(object, "config")) {
        config.config = TRY_CONTEXT(container_from(*container), "config");
    }
    if (const Json* rootfs = detail::field(object, "rootfs")) TRY(read_rootfs(*rootfs, config));
    if (const Json* history = detail::field(object, "history")) config.history = TRY(history_from(*history));
    for (const auto& [name, value] : object.items()) {
        if (std::ranges::find(kTopFields, name) == kTopFields.end()) config.other[name] = detail::print_compact(value);
    }
    return config;
}

std::string marshal_image_config(const ImageConfig& config) {
    std::map<std::string, Json> fields;
    for (const auto& [name, text] : config.other) {
        Json value = Json::parse(text, nullptr, false);
        if (!value.is_discarded()) fields[name] = std::move(value);
    }
    if (config.created) fields["created"] = *config.created;
    if (!config.author.empty()) fields["author"] = config.author;
    Json platform = Json::object();
    detail::write_platform(platform, config.platform);
    for (const auto& [name, value] : platform.items()) fields[name] = value;
    fields["config"] = to_json(config.config);
    Json rootfs = Json::object();
    rootfs["type"] = config.rootfs_type;
    Json diff_ids = Json::array();
    for (const Digest& diff_id : config.diff_ids) diff_ids.push_back(diff_id.to_string());
    rootfs["diff_ids"] = std::move(diff_ids);
    fields["rootfs"] = std::move(rootfs);
    if (!config.history.empty()) fields["history"] = history_json(config.history);

    Json object = Json::object();
    for (auto& [name, value] : fields) object[name] = std::move(value);
    return detail::print_compact(object);
}

std::vector<Digest> chain_ids(const std::vector<Digest>& diff_ids) {
    std::vector<Digest> chain;
    chain.reserve(diff_ids.size());
    for (const Digest& diff_id : diff_ids) {
        chain.push_back(chain.empty() ? diff_id
                                      : codec::sha256_of(chain.back().to_string() + " " + diff_id.to_string()));
    }
    return chain;
}

Digest chain_id(const std::vector<Digest>& diff_ids) {
    const std::vector<Digest> chain = chain_ids(diff_ids);
    return chain.empty() ? Digest() : chain.back();
}

}  // namespace cooper::oci
