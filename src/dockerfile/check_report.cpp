#include "dockerfile/check_report.hpp"

#include "base/text.hpp"
#include "codec/base64.hpp"
#include "codec/go_json.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <nlohmann/json.hpp>

namespace cooper::dockerfile {

namespace {

constexpr const char* kErrorRule = "BuildError";
constexpr int kMaxLines = 1 << 30;

void put_location(codec::GoJson& json, const Lines& lines) {
    const auto position = [&](int line) { json.begin_object().key("line").integer(line).end_object(); };
    json.begin_object();
    if (lines.first > 0) {
        json.key("ranges").begin_array().begin_object();
        json.key("start");
        position(lines.first);
        json.key("end");
        position(lines.last);
        json.end_object().end_array();
    }
    json.end_object();
}

std::string text_at(const nlohmann::json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

int line_at(const nlohmann::json& range, const char* key) {
    const auto position = range.find(key);
    if (position == range.end() || !position->is_object()) return 0;
    const auto line = position->find("line");
    if (line == position->end() || !line->is_number_integer()) return 0;
    const auto value = line->get<std::int64_t>();
    return value < 0 || value > kMaxLines ? 0 : static_cast<int>(value);
}

Lines lines_of(const nlohmann::json& object) {
    const auto location = object.find("location");
    if (location == object.end() || !location->is_object()) return {};
    const auto ranges = location->find("ranges");
    if (ranges == location->end() || !ranges->is_array() || ranges->empty()) return {};
    const nlohmann::json& range = ranges->front();
    if (!range.is_object()) return {};
    const int first = line_at(range, "start");
    return {first, std::max(first, line_at(range, "end"))};
}

std::string excerpt_of(const CheckReport& report, const Lines& lines) {
    return lines.first > 0 ? excerpt(report.filename, report.text, lines) : std::string();
}

std::vector<CheckFinding> by_lines(std::vector<CheckFinding> findings) {
    std::ranges::stable_sort(findings, {}, [](const CheckFinding& one) { return one.lines.first; });
    return findings;
}

// --- SARIF ---

// RFC 3986: a path as a relative reference. A colon in its first part would be read as a scheme.
std::string to_uri(std::string_view path) {
    static constexpr std::string_view kPlain = "-._~/!$&'()*+,;=@";
    std::string out;
    for (const char c : path) {
        const auto byte = static_cast<unsigned char>(c);
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        out += letter || kPlain.find(c) != std::string_view::npos ? std::string(1, c) : fmt::format("%{:02X}", byte);
    }
    return out;
}

class SarifWriter {
public:
    explicit SarifWriter(std::string_view path) : path_(path), json_("  ") {}

    std::string run(const CheckReport& report) {
        findings_ = by_lines(report.findings);
        if (report.error) findings_.push_back(from_error(*report.error));
        for (const CheckFinding& finding : findings_) {
            if (index_.try_emplace(finding.rule, rules_.size()).second) rules_.push_back(&finding);
        }
        json_.begin_object();
        json_.field("$schema", "https://json.schemastore.org/sarif-2.1.0.json");
        json_.field("version", "2.1.0");
        json_.key("runs").begin_array().begin_object();
        put_tool();
        json_.key("results").begin_array();
        for (const CheckFinding& finding : findings_) put_result(finding);
        json_.end_array();
        json_.end_object().end_array();
        json_.end_object();
        return std::move(json_).take();
    }

private:
    static CheckFinding from_error(const CheckError& error) {
        return {kErrorRule, "The file cannot be built", "", error.message, error.lines};
    }

    static const char* level(const CheckFinding& finding) { return finding.rule == kErrorRule ? "error" : "warning"; }

    void put_text(std::string_view name, std::string_view text) {
        json_.key(name).begin_object().field("text", text).end_object();
    }

    void put_tool() {
        json_.key("tool").begin_object().key("driver").begin_object();
        json_.field("name", "cooper");
        json_.field("version", COOPER_VERSION);
        json_.key("rules").begin_array();
        for (const CheckFinding* rule : rules_) {
            json_.begin_object();
            json_.field("id", rule->rule);
            put_text("shortDescription", rule->description.empty() ? rule->rule : rule->description);
            if (!rule->url.empty()) json_.field("helpUri", rule->url);
            json_.key("defaultConfiguration").begin_object().field("level", level(*rule)).end_object();
            json_.end_object();
        }
        json_.end_array().end_object().end_object();
    }

    void put_result(const CheckFinding& finding) {
        json_.begin_object();
        json_.field("ruleId", finding.rule);
        json_.key("ruleIndex").integer(static_cast<std::int64_t>(index_.at(finding.rule)));
        json_.field("level", level(finding));
        put_text("message", finding.detail);
        json_.key("locations").begin_array().begin_object();
        json_.key("physicalLocation").begin_object();
        json_.key("artifactLocation").begin_object().field("uri", to_uri(path_)).end_object();
        if (finding.lines.first > 0) {
            json_.key("region").begin_object();
            json_.key("startLine").integer(finding.lines.first);
            json_.key("endLine").integer(finding.lines.last);
            json_.end_object();
        }
        json_.end_object();
        json_.end_object().end_array();
        json_.end_object();
    }

    std::string_view path_;
    codec::GoJson json_;
    std::vector<CheckFinding> findings_;
    std::vector<const CheckFinding*> rules_;
    std::map<std::string, std::size_t> index_;
};

}  // namespace

std::string to_json(const CheckReport& report) {
    codec::GoJson json("  ");
    const auto field = [&](std::string_view name, std::string_view text) {
        if (!text.empty()) json.field(name, text);
    };
    json.begin_object();
    json.key("warnings");
    if (report.findings.empty()) {
        json.null();
    } else {
        json.begin_array();
        for (const CheckFinding& finding : report.findings) {
            json.begin_object();
            json.field("ruleName", finding.rule);
            field("description", finding.description);
            field("url", finding.url);
            field("detail", finding.detail);
            json.key("location");
            put_location(json, finding.lines);
            json.end_object();
        }
        json.end_array();
    }
    json.key("sources").begin_array().begin_object();
    field("filename", report.filename);
    if (!report.text.empty()) json.key("data").bytes(report.text);
    json.field("language", "Dockerfile");
    json.end_object().end_array();
    if (report.error) {
        json.key("buildError").begin_object();
        json.field("message", report.error->message);
        json.key("location");
        put_location(json, report.error->lines);
        json.end_object();
    }
    json.end_object();
    return std::move(json).take();
}

Result<CheckReport> parse_check_report(std::string_view json) {
    const auto parsed = nlohmann::json::parse(json, nullptr, false);
    if (!parsed.is_object()) return bad_input("the result of the checks is no JSON object");
    CheckReport report;
    if (const auto sources = parsed.find("sources");
        sources != parsed.end() && sources->is_array() && !sources->empty() && sources->front().is_object()) {
        report.filename = text_at(sources->front(), "filename");
        report.text = TRY_CONTEXT(codec::base64_decode(text_at(sources->front(), "data")), "result of the checks");
    }
    if (const auto warnings = parsed.find("warnings"); warnings != parsed.end() && warnings->is_array()) {
        for (const auto& one : *warnings) {
            if (!one.is_object()) return bad_input("the result of the checks has a warning that is no object");
            report.findings.push_back({text_at(one, "ruleName"), text_at(one, "description"), text_at(one, "url"),
                                       text_at(one, "detail"), lines_of(one)});
        }
    }
    if (const auto error = parsed.find("buildError"); error != parsed.end() && error->is_object()) {
        report.error = CheckError{text_at(*error, "message"), lines_of(*error)};
    }
    return report;
}

std::string to_text(const CheckReport& report) {
    std::string out;
    for (const CheckFinding& finding : by_lines(report.findings)) {
        out += fmt::format("\nWARNING: {}", finding.rule);
        if (!finding.url.empty()) out += " - " + finding.url;
        out += "\n" + finding.detail + "\n" + excerpt_of(report, finding.lines);
    }
    return out;
}

std::string error_text(const CheckReport& report) {
    if (!report.error) return {};
    return report.error->message + "\n" + excerpt_of(report, report.error->lines);
}

std::string to_sarif(const CheckReport& report, std::string_view path) { return SarifWriter(path).run(report); }

}  // namespace cooper::dockerfile
