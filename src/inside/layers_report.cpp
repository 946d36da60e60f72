#include "inside/layers_report.hpp"

#include "base/text.hpp"
#include "codec/go_json.hpp"
#include "inside/shown.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace cooper::inside {

namespace {

std::string why_text(const Waste& waste) {
    if (waste.why == Hidden::removed) return "removed";
    if (waste.why == Hidden::replaced) return "replaced";
    std::vector<std::string> parts;
    if (waste.delta.mode) {
        parts.push_back(fmt::format("mode {} → {}", mode_shown(waste.mode_before), mode_shown(waste.mode_after)));
    }
    if (waste.delta.owner) parts.emplace_back("owner");
    if (waste.delta.xattrs) parts.emplace_back("attributes");
    if (waste.delta.time && parts.empty()) parts.emplace_back("time");
    return parts.empty() ? "stored again" : join(parts, ", ") + " changed";
}

std::string layer_list(const std::vector<std::uint32_t>& layers) {
    std::string text = layers.size() == 1 ? "layer " : "layers ";
    constexpr std::size_t kMany = 8;
    for (std::size_t i = 0; i < layers.size() && i < kMany; ++i)
        text += fmt::format("{}{}", i == 0 ? "" : ", ", layers[i] + 1);
    if (layers.size() > kMany) text += ", …";
    return text;
}

void find_waste(LayersReport& report, std::size_t limit) {
    std::vector<Waste> all = report.stack->waste();
    for (const auto& one : all) report.wasted_bytes += one.bytes;
    std::ranges::stable_sort(all, [](const Waste& a, const Waste& b) { return a.path < b.path; });
    struct Group {
        std::size_t first, count;
        std::uint64_t bytes;
    };
    std::vector<Group> groups;
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (groups.empty() || all[groups.back().first].path != all[i].path) groups.push_back({i, 0, 0});
        ++groups.back().count;
        groups.back().bytes += all[i].bytes;
    }
    report.wasted_paths = groups.size();
    const auto larger = [&](const Group& a, const Group& b) {
        if (a.bytes != b.bytes) return a.bytes > b.bytes;
        return report.listings.paths.before(all[a.first].path, all[b.first].path);
    };
    const std::size_t kept = std::min(limit, groups.size());
    std::partial_sort(groups.begin(), groups.begin() + static_cast<std::ptrdiff_t>(kept), groups.end(), larger);
    groups.resize(kept);
    for (const Group& group : groups) {
        PathWaste waste{.path = report.listings.paths.text(all[group.first].path), .bytes = group.bytes};
        for (std::size_t i = group.first; i < group.first + group.count; ++i) waste.stored.push_back(all[i].layer);
        const Waste& last = all[group.first + group.count - 1];
        waste.hidden_by = last.hidden_by;
        waste.why = why_text(last);
        report.waste.push_back(std::move(waste));
    }
}

void find_largest(LayersReport& report, std::size_t limit) {
    struct Seen {
        Paths::Id path;
        std::uint64_t bytes;
        std::uint32_t layer;
    };
    const Paths& paths = report.listings.paths;
    std::vector<Seen> files;
    for (Paths::Id path = 0; path < paths.size(); ++path) {
        const Entry* entry = report.stack->entry(path);
        if (entry == nullptr || entry->kind != Kind::file) continue;
        ++report.seen_files;
        if (entry->size > 0) files.push_back({path, entry->size, report.stack->place(path).layer});
    }
    const std::size_t kept = std::min(limit, files.size());
    std::partial_sort(files.begin(), files.begin() + static_cast<std::ptrdiff_t>(kept), files.end(),
                      [&](const Seen& a, const Seen& b) {
                          return a.bytes != b.bytes ? a.bytes > b.bytes : paths.before(a.path, b.path);
                      });
    for (std::size_t i = 0; i < kept; ++i) {
        report.largest.push_back({.path = paths.text(files[i].path), .bytes = files[i].bytes, .layer = files[i].layer});
    }
}

std::string instruction_shown(const Instruction& instruction, std::size_t limit) {
    return instruction.text.empty() ? "(not told)" : shown(instruction.text, limit);
}

std::string percent(std::uint64_t part, std::uint64_t whole) {
    return whole == 0 ? "0%" : fmt::format("{:.1f}%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

}  // namespace

Result<std::unique_ptr<LayersReport>> report_layers(const Image& image, std::size_t limit, std::size_t threads,
                                                    const Stop& stop) {
    auto report = std::make_unique<LayersReport>();
    report->image = &image;
    report->instructions = instructions_of(image.config, image.layers.size());
    report->listings = TRY(read_layers({&image}, {}, threads, stop));
    report->stack = std::make_unique<Stack>(TRY(Stack::of(report->listings.paths, report->listings.layers, stop)));
    report->facts = report->stack->facts();
    for (const auto& facts : report->facts) report->stored_bytes += facts.bytes;
    report->seen_bytes = report->stack->seen_bytes();
    find_waste(*report, limit);
    find_largest(*report, limit);
    return report;
}

std::string to_text(const LayersReport& report) {
    const Image& image = *report.image;
    std::string text = fmt::format("{}  {}/{}\n\n", shown(image.name), shown(image.config.platform.os),
                                   shown(image.config.platform.architecture));
    text += "  #    SIZE  PACKED  WASTED   FILES  INSTRUCTION\n";
    std::uint64_t packed = 0;
    bool all_packed = true;
    for (std::size_t i = 0; i < image.layers.size(); ++i) {
        const LayerFacts& facts = report.facts[i];
        const auto& size = image.layers[i].packed_size;
        packed += size.value_or(0);
        all_packed = all_packed && size;
        text +=
            fmt::format("{:>3}{:>8}{:>8}{:>8}{:>8}  {}\n", i + 1, human_size(facts.bytes),
                        size ? human_size(*size) : "-", facts.wasted_bytes == 0 ? "-" : human_size(facts.wasted_bytes),
                        facts.files, instruction_shown(report.instructions[i], 90));
    }
    text += fmt::format("\n{} in {}", human_size(report.stored_bytes), counted(image.layers.size(), "layer", "layers"));
    if (all_packed && packed > 0) text += fmt::format(", {} packed", human_size(packed));
    text += fmt::format("; {} seen, {}\n", counted(report.seen_files, "file is", "files are"),
                        human_size(report.seen_bytes));
    if (report.wasted_bytes > 0) {
        text += fmt::format("{} ({}) wasted: stored, and not seen\n", human_size(report.wasted_bytes),
                            percent(report.wasted_bytes, report.stored_bytes));
        for (const auto& waste : report.waste) {
            text += fmt::format("{:>8}  {}  {} by layer {}; stored in {}\n", human_size(waste.bytes), shown(waste.path),
                                waste.why, waste.hidden_by + 1, layer_list(waste.stored));
        }
        if (report.wasted_paths > report.waste.size()) {
            text += fmt::format("          … and {} more\n", report.wasted_paths - report.waste.size());
        }
    } else {
        text += "nothing is wasted\n";
    }
    if (!report.largest.empty()) text += "\nLargest files\n";
    for (const auto& file : report.largest) {
        text += fmt::format("{:>8}  {}  layer {}\n", human_size(file.bytes), shown(file.path), file.layer + 1);
    }
    return text;
}

std::string to_json(const LayersReport& report) {
    const Image& image = *report.image;
    codec::GoJson json("  ");
    json.begin_object().field("image", image.name);
    json.field("platform", image.config.platform.os + "/" + image.config.platform.architecture);
    json.field("digest", image.manifest.to_string()).field("config", image.config_digest.to_string());
    json.key("stored_bytes").unsigned_integer(report.stored_bytes);
    json.key("seen_bytes").unsigned_integer(report.seen_bytes);
    json.key("wasted_bytes").unsigned_integer(report.wasted_bytes);
    json.key("seen_files").unsigned_integer(report.seen_files);
    json.key("layers").begin_array();
    for (std::size_t i = 0; i < image.layers.size(); ++i) {
        const LayerSource& layer = image.layers[i];
        const LayerFacts& facts = report.facts[i];
        json.begin_object().key("number").unsigned_integer(i + 1);
        json.field("instruction", report.instructions[i].text).field("created", report.instructions[i].created);
        json.field("diff_id", layer.diff_id.to_string()).field("blob", layer.blob.to_string());
        json.key("packed_bytes");
        if (layer.packed_size) {
            json.unsigned_integer(*layer.packed_size);
        } else {
            json.null();
        }
        json.key("bytes").unsigned_integer(facts.bytes).key("wasted_bytes").unsigned_integer(facts.wasted_bytes);
        json.key("files").unsigned_integer(facts.files).key("directories").unsigned_integer(facts.directories);
        json.key("links").unsigned_integer(facts.links).key("whiteouts").unsigned_integer(facts.whiteouts);
        json.end_object();
    }
    json.end_array().key("waste").begin_array();
    for (const auto& waste : report.waste) {
        json.begin_object()
            .field("path", waste.path)
            .key("bytes")
            .unsigned_integer(waste.bytes)
            .key("stored_in")
            .begin_array();
        for (const std::uint32_t layer : waste.stored) json.unsigned_integer(layer + 1);
        json.end_array().key("hidden_by").unsigned_integer(waste.hidden_by + 1).field("why", waste.why).end_object();
    }
    json.end_array().key("largest").begin_array();
    for (const auto& file : report.largest) {
        json.begin_object().field("path", file.path).key("bytes").unsigned_integer(file.bytes);
        json.key("layer").unsigned_integer(file.layer + 1).end_object();
    }
    json.end_array().end_object();
    return std::move(json).take() + "\n";
}

}  // namespace cooper::inside
