// du, prune, prune-histories.
#include "base/text.hpp"
#include "buildctl/command.hpp"
#include "buildctl/output.hpp"
#include "buildctl/tab_writer.hpp"
#include "client/control.hpp"
#include "codec/go_json.hpp"
#include "dockerfile/go_duration.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace cooper::buildctl {

namespace {

using client::UsageRecord;

constexpr const char* kHeader = "ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n";

std::string table_row(const UsageRecord& record) {
    return fmt::format("{:<71}\t{:<11}\t{}\t\n", record.id + (record.is_mutable ? "*" : ""), !record.in_use,
                       bytes_text(record.size_bytes));
}

std::string verbose_text(const UsageRecord& record) {
    std::string text = fmt::format("ID:\t{}\n", record.id);
    if (!record.parents.empty()) text += fmt::format("Parents:\t{}\n", join(record.parents, ", "));
    text += fmt::format("Created at:\t{}\n", record.created ? time_text(*record.created) : time_text({}));
    text += fmt::format("Mutable:\t{}\nReclaimable:\t{}\nShared:\t{}\nSize:\t{}\n", record.is_mutable, !record.in_use,
                        record.shared, bytes_text(record.size_bytes));
    if (!record.description.empty()) text += fmt::format("Description:\t{}\n", record.description);
    text += fmt::format("Usage count:\t{}\n", record.usage_count);
    if (record.last_used) text += fmt::format("Last used:\t{}\n", time_text(*record.last_used));
    if (!record.type.empty()) text += fmt::format("Type:\t{}\n", record.type);
    return text + "\n";
}

void add_json(codec::GoJson& json, const UsageRecord& record) {
    json.begin_object().field("id", record.id);
    json.key("mutable").boolean(record.is_mutable);
    json.key("inUse").boolean(record.in_use);
    json.key("size").integer(record.size_bytes);
    json.field("createdAt", format_rfc3339(record.created.value_or(Timestamp())));
    json.key("lastUsedAt");
    if (record.last_used) {
        json.string(format_rfc3339(*record.last_used));
    } else {
        json.null();
    }
    json.key("usageCount").integer(record.usage_count);
    json.key("parents").strings(record.parents);
    json.field("description", record.description).field("recordType", record.type);
    json.key("shared").boolean(record.shared).end_object();
}

std::string json_of(const UsageRecord& record) {
    codec::GoJson json;
    add_json(json, record);
    return std::move(json).take();
}

struct UsageFlags {
    std::vector<std::string> filters;
    std::string format;
    bool verbose = false;
};

Result<int> disk_usage(const UsageFlags& flags, const Context& context) {
    const bool as_json = TRY(wants_json(flags.format));
    const auto connection = TRY(context.connect());
    const auto records = TRY(client::disk_usage(*connection, flags.filters, context.stop));
    if (as_json) {
        codec::GoJson json;
        json.begin_array();
        for (const auto& record : records) add_json(json, record);
        json.end_array();
        fmt::print("{}\n", json.text());
        return 0;
    }
    std::string text = flags.verbose ? "" : kHeader;
    std::int64_t total = 0;
    std::int64_t reclaimable = 0;
    for (const auto& record : records) {
        text += flags.verbose ? verbose_text(record) : table_row(record);
        if (record.size_bytes <= 0) continue;
        total += record.size_bytes;
        if (!record.in_use) reclaimable += record.size_bytes;
    }
    fmt::print("{}", align_tabs(text));
    if (flags.filters.empty()) {
        fmt::print("{}", align_tabs(fmt::format("Reclaimable:\t{}\nTotal:\t{}\n", bytes_text(reclaimable),
                                                bytes_text(total))));
    }
    return 0;
}

Action setup_usage(CLI::App& app) {
    auto flags = std::make_shared<UsageFlags>();
    app.add_option("-f,--filter", flags->filters, "Only these records: type==regular, id~=…")
        ->type_name("FILTER")
        ->allow_extra_args(false);
    app.add_flag("-v,--verbose", flags->verbose, "All that is known of each record");
    app.add_option("--format", flags->format, "'{{json .}}' prints JSON")->type_name("FORMAT");
    return [flags](const Context& context) { return disk_usage(*flags, context); };
}

struct PruneFlags {
    UsageFlags usage;
    std::string keep_duration;
    std::string max_used, reserved, min_free;
    double keep_storage = 0, keep_storage_min = 0, free_storage = 0;  // megabytes
    bool all = false;
};

Result<std::int64_t> size_of(const std::string& text, double megabytes) {
    if (text.empty()) return static_cast<std::int64_t>(megabytes * 1e6);
    return parse_size(text);
}

Result<int> prune(const PruneFlags& flags, const Context& context) {
    const bool as_json = TRY(wants_json(flags.usage.format));
    client::PruneSpec spec{.filters = flags.usage.filters, .all = flags.all};
    if (!flags.keep_duration.empty()) {
        spec.keep_duration = std::chrono::nanoseconds(
            TRY_CONTEXT(dockerfile::parse_go_duration(flags.keep_duration), "--keep-duration"));
    }
    spec.max_used_bytes = TRY_CONTEXT(size_of(flags.max_used, flags.keep_storage), "--max-used-space");
    spec.reserved_bytes = TRY_CONTEXT(size_of(flags.reserved, flags.keep_storage_min), "--reserved-space");
    spec.min_free_bytes = TRY_CONTEXT(size_of(flags.min_free, flags.free_storage), "--min-free-space");
    const auto connection = TRY(context.connect());
    std::int64_t total = 0;
    bool first = true;
    const auto show = [&](const UsageRecord& record) {
        total += record.size_bytes;
        if (as_json) {
            fmt::print("{}\n", json_of(record));
        } else if (flags.usage.verbose) {
            fmt::print("{}", align_tabs(verbose_text(record)));
        } else {
            fmt::print("{}", align_tabs((first ? kHeader : "") + table_row(record)));
        }
        first = false;
    };
    TRY(client::prune(*connection, spec, show, context.stop));
    if (!as_json) fmt::print("{}", align_tabs(fmt::format("Total:\t{}\n", bytes_text(total))));
    return 0;
}

Action setup_prune(CLI::App& app) {
    auto flags = std::make_shared<PruneFlags>();
    app.add_option("-f,--filter", flags->usage.filters, "Only these records: type==regular, id~=…")
        ->type_name("FILTER")
        ->allow_extra_args(false);
    app.add_flag("--all", flags->all, "Also what frontends and the daemon itself keep");
    app.add_option("--keep-duration", flags->keep_duration, "Keep what was used since: 48h")->type_name("DURATION");
    app.add_option("--max-used-space", flags->max_used, "Keep at most so much: 10GB")->type_name("SIZE");
    app.add_option("--reserved-space", flags->reserved, "Keep so much in any case")->type_name("SIZE");
    app.add_option("--min-free-space", flags->min_free, "Leave so much of the disk free")->type_name("SIZE");
    app.add_option("--keep-storage", flags->keep_storage, "--max-used-space in MB")->type_name("MB");
    app.add_option("--keep-storage-min", flags->keep_storage_min, "--reserved-space in MB")->type_name("MB");
    app.add_option("--free-storage", flags->free_storage, "--min-free-space in MB")->type_name("MB");
    app.add_flag("-v,--verbose", flags->usage.verbose, "All that is known of each record");
    app.add_option("--format", flags->usage.format, "'{{json .}}' prints JSON")->type_name("FORMAT");
    return [flags](const Context& context) { return prune(*flags, context); };
}

Action setup_prune_histories(CLI::App& /*app*/) {
    return [](const Context& context) -> Result<int> {
        const auto connection = TRY(context.connect());
        std::vector<client::HistoryRecord> records;
        TRY(client::list_history(
            *connection, {}, [&](const client::HistoryRecord& record) { records.push_back(record); }, context.stop));
        std::string text(kHistoryHeader);
        for (const auto& record : records) {
            if (record.event != "COMPLETE" || record.pinned) continue;
            TRY(client::update_history(*connection, record.ref, client::HistoryUpdate::remove, context.stop));
            text += history_row(record);
        }
        fmt::print("{}", align_tabs(text));
        return 0;
    };
}

}  // namespace

std::vector<Command> store_commands() {
    return {
        {"du", "Disk usage", setup_usage},
        {"prune", "Remove build cache", setup_prune},
        {"prune-histories", "Remove the records of builds that have ended and are not pinned", setup_prune_histories}};
}

}  // namespace cooper::buildctl
