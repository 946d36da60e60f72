#include "dockerfile/subrequest.hpp"

#include "base/text.hpp"
#include "codec/go_json.hpp"
#include "dockerfile/check_report.hpp"
#include "dockerfile/instructions.hpp"
#include "dockerfile/parse.hpp"
#include "dockerfile/runes.hpp"
#include "llb/marshal.hpp"
#include "llb/proto_json.hpp"

#include <algorithm>
#include <array>
#include <fmt/format.h>

namespace cooper::dockerfile {

namespace {

constexpr const char* kVersion = "1.0.0";

// Columns as Go's tabwriter lines them up: each as wide as its widest cell and `padding` more; the last
// one is left alone.
std::string table(const std::vector<std::vector<std::string>>& rows, std::size_t padding) {
    std::vector<std::size_t> widths;
    const auto width = [](const std::string& cell) { return to_runes(cell).size(); };
    for (const auto& row : rows) {
        widths.resize(std::max(widths.size(), row.size()));
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
    }
    std::string out;
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            out += row[i];
            if (i + 1 < row.size()) out.append(widths[i] + padding - width(row[i]), ' ');
        }
        out += "\n";
    }
    return out;
}

class AnswerJson {
public:
    AnswerJson() : json_("  ") {}

    codec::GoJson& json() { return json_; }
    void optional(std::string_view name, std::string_view text) {
        if (!text.empty()) json_.field(name, text);
    }
    void location(const Lines& lines) {
        if (lines.first <= 0) return;
        json_.key("location").begin_object().key("ranges").begin_array().begin_object();
        json_.key("start").begin_object().key("line").integer(lines.first).end_object();
        json_.key("end").begin_object().key("line").integer(lines.last).end_object();
        json_.end_object().end_array().end_object();
    }
    void sources(const std::string& text) { json_.key("sources").begin_array().bytes(text).end_array(); }
    std::string take() { return std::move(json_).take(); }

private:
    codec::GoJson json_;
};

// --- describe ---

struct Request {
    std::string_view name;
    std::string_view description;
    bool takes_target = false;
    bool has_opts = true;
};
constexpr std::array<Request, 3> kDescribed = {{
    {kRequestOutline, "List all parameters current build target supports", true},
    {kRequestTargets, "List all targets current build supports"},
    {kRequestDescribe, "List available subrequest types", false, false},
}};

SubrequestAnswer describe() {
    codec::GoJson json("  ");
    const auto named = [&](std::string_view name, std::string_view description) {
        json.begin_object().field("name", name).field("description", description).end_object();
    };
    std::vector<std::vector<std::string>> rows = {{"NAME", "VERSION", "DESCRIPTION"}};
    json.begin_array();
    for (const Request& request : kDescribed) {
        json.begin_object();
        json.field("name", request.name).field("version", kVersion).field("type", "rpc");
        json.field("description", request.description);
        json.key("opts");
        if (request.has_opts) {
            json.begin_array();
            if (request.takes_target) named("target", "Target build stage");
            json.end_array();
        } else {
            json.null();
        }
        json.key("inputs").null();
        json.key("metadata").begin_array();
        named("result.json", "");
        named("result.txt", "");
        json.end_array();
        json.key("refs").null();
        json.end_object();
        std::string_view name = request.name;
        name.remove_prefix(std::string_view("frontend.").size());
        rows.push_back({std::string(name), kVersion, std::string(request.description)});
    }
    json.end_array();
    return {{"result.json", std::move(json).take()}, {"result.txt", table(rows, 1)}, {"version", kVersion}};
}

// --- targets ---

Result<SubrequestAnswer> targets(const std::string& text, const ConvertOptions& options) {
    const ParsedFile file = TRY(parse(text, options.filename));
    const StageList list = TRY(parse_stages(file));
    AnswerJson out;
    codec::GoJson& json = out.json();
    std::vector<std::vector<std::string>> rows = {{"TARGET", "DESCRIPTION"}};
    json.begin_object().key("targets");
    if (list.stages.empty()) {
        json.null();
    } else {
        json.begin_array();
        for (const Stage& stage : list.stages) {
            const bool is_default = &stage == &list.stages.back();
            json.begin_object();
            out.optional("name", stage.name);
            if (is_default) json.key("default").boolean(true);
            out.optional("description", stage.description);
            out.optional("base", stage.base_name);
            out.optional("platform", stage.platform);
            out.location(stage.location);
            json.end_object();
            std::string name = stage.name;
            if (is_default) name += name.empty() ? "(default)" : " (default)";
            rows.push_back({std::move(name), stage.description});
        }
        json.end_array();
    }
    out.sources(text);
    json.end_object();
    return SubrequestAnswer{{"result.json", out.take()}, {"result.txt", table(rows, 1)}, {"version", kVersion}};
}

// --- outline ---

void put_mounts(AnswerJson& out, std::string_view name, const std::vector<OutlineMount>& mounts) {
    if (mounts.empty()) return;
    out.json().key(name).begin_array();
    for (const OutlineMount& mount : mounts) {
        out.json().begin_object();
        out.json().field("name", mount.name);
        if (mount.required) out.json().key("required").boolean(true);
        out.location(mount.lines);
        out.json().end_object();
    }
    out.json().end_array();
}

std::string outline_json(const Outline& outline, const std::string& text) {
    AnswerJson out;
    codec::GoJson& json = out.json();
    json.begin_object();
    out.optional("name", outline.name);
    out.optional("description", outline.description);
    if (!outline.args.empty()) {
        json.key("args").begin_array();
        for (const OutlineArg& arg : outline.args) {
            json.begin_object();
            json.field("name", arg.name);
            out.optional("description", arg.description);
            out.optional("value", arg.value);
            out.location(arg.lines);
            json.end_object();
        }
        json.end_array();
    }
    put_mounts(out, "secrets", outline.secrets);
    put_mounts(out, "ssh", outline.ssh);
    out.sources(text);
    json.end_object();
    return out.take();
}

std::string mount_table(std::string title, const std::vector<OutlineMount>& mounts) {
    if (mounts.empty()) return {};
    std::vector<std::vector<std::string>> rows = {{std::move(title), "REQUIRED"}};
    for (const OutlineMount& mount : mounts) rows.push_back({mount.name, mount.required ? "true" : ""});
    return table(rows, 3) + "\n";
}

std::string outline_text(const Outline& outline) {
    std::string out;
    if (!outline.name.empty() || !outline.description.empty()) {
        std::vector<std::vector<std::string>> rows = {
            {"TARGET:", outline.name.empty() ? std::string("(default)") : outline.name}};
        if (!outline.description.empty()) rows.push_back({"DESCRIPTION:", outline.description});
        out += table(rows, 1) + "\n";
    }
    if (!outline.args.empty()) {
        std::vector<std::vector<std::string>> rows = {{"BUILD ARG", "VALUE", "DESCRIPTION"}};
        for (const OutlineArg& arg : outline.args) rows.push_back({arg.name, arg.value, arg.description});
        out += table(rows, 3) + "\n";
    }
    return out + mount_table("SECRET", outline.secrets) + mount_table("SSH", outline.ssh);
}

Result<SubrequestAnswer> outline(const std::string& text, const ConvertOptions& options, frontend::Bridge& bridge,
                                 Stop stop) {
    const Outline outline = TRY(outline_of(text, options, bridge, std::move(stop)));
    return SubrequestAnswer{
        {"result.json", outline_json(outline, text)}, {"result.txt", outline_text(outline)}, {"version", kVersion}};
}

// --- lint ---

CheckFinding to_finding(const LintWarning& warning) {
    const LintRuleInfo& info = lint_rule_info(warning.rule);
    return {std::string(info.name), std::string(info.description), std::string(info.url), detail_of(warning),
            warning.lines};
}

CheckError to_check_error(const Error& error) {
    CheckError out;
    out.message = error.to_string();
    if (error.hint().starts_with("did you mean")) out.message += " (" + error.hint() + ")";
    if (const auto* range = error.find_detail<SourceRange>()) out.lines = {range->first_line, range->last_line};
    return out;
}

Result<SubrequestAnswer> checks(const std::string& text, const ConvertOptions& options, frontend::Bridge& bridge,
                                Stop stop) {
    const LintResult found = lint(text, options, bridge, std::move(stop));
    if (found.error && found.error->is_cancelled()) return *found.error;
    CheckReport report{.filename = options.filename, .text = text, .findings = {}, .error = {}};
    for (const LintWarning& warning : found.warnings) report.findings.push_back(to_finding(warning));
    if (found.error) report.error = to_check_error(*found.error);
    const bool clean = report.findings.empty() && !report.error;
    return SubrequestAnswer{{"result.json", to_json(report)},
                            {"result.txt", to_text(report)},
                            {"result.statuscode", clean ? "0" : "1"},
                            {"version", kVersion}};
}

// --- convertllb ---

void put_metadata(AnswerJson& out, const llb::OpMetadata& metadata) {
    codec::GoJson& json = out.json();
    json.begin_object();
    if (metadata.ignore_cache) json.key("ignore_cache").boolean(true);
    if (!metadata.description.empty()) json.key("description").map(metadata.description);
    if (metadata.export_cache) {
        json.key("export_cache").begin_object();
        if (*metadata.export_cache) json.key("Value").boolean(true);
        json.end_object();
    }
    if (!metadata.caps.empty()) {
        json.key("caps").begin_object();
        for (const auto& [name, value] : metadata.caps) json.key(name).boolean(value);
        json.end_object();
    }
    if (const auto& group = metadata.progress_group) {
        json.key("progress_group").begin_object();
        out.optional("id", group->id);
        out.optional("name", group->name);
        if (group->weak) json.key("weak").boolean(true);
        json.end_object();
    }
    json.end_object();
}

Result<SubrequestAnswer> converted(const std::string& text, const ConvertOptions& options, frontend::Bridge& bridge,
                                   Stop stop) {
    const BuildPlan plan = TRY(to_llb(text, options, bridge, std::move(stop)));
    std::map<std::string, const std::string*> ops;
    for (const std::string& op : plan.definition.ops) ops[llb::op_digest(op).to_string()] = &op;
    AnswerJson out;
    codec::GoJson& json = out.json();
    json.begin_object().key("def").begin_object();
    for (const auto& [digest, op] : ops) {
        json.key(digest);
        TRY(llb::put_proto_json(json, *op));
    }
    json.end_object().key("metadata").begin_object();
    for (const auto& [digest, metadata] : plan.definition.metadata) {
        json.key(digest);
        put_metadata(out, metadata);
    }
    json.end_object().key("source");
    llb::put_proto_json(json, plan.definition.source.value_or(llb::SourceMap{}));
    json.end_object();
    return SubrequestAnswer{{"result.json", out.take()}, {"version", "0.1.0"}};
}

}  // namespace

bool is_subrequest(std::string_view id) {
    return id == kRequestDescribe || id == kRequestOutline || id == kRequestTargets || id == kRequestLint ||
           id == kRequestConvertLlb;
}

Result<SubrequestAnswer> answer_subrequest(std::string_view id, const std::string& dockerfile,
                                           const ConvertOptions& options, frontend::Bridge& bridge, Stop stop) {
    if (id == kRequestDescribe) return describe();
    if (id == kRequestTargets) return targets(dockerfile, options);
    if (id == kRequestOutline) return outline(dockerfile, options, bridge, std::move(stop));
    if (id == kRequestLint) return checks(dockerfile, options, bridge, std::move(stop));
    if (id == kRequestConvertLlb) return converted(dockerfile, options, bridge, std::move(stop));
    return fail(Code::unimplemented, Blame::user, "unsupported request {}", id);
}

}  // namespace cooper::dockerfile
