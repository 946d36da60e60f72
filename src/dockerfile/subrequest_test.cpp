// Answers to subrequests: their texts, byte for byte where clients read them, and reports that come back.
#include "dockerfile/subrequest.hpp"

#include "dockerfile/check_report.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace cooper::dockerfile {
namespace {

// Knows no image.
class EmptyBridge final : public frontend::Bridge {
public:
    Result<frontend::ResolvedImage> resolve_image_config(const std::string& reference,
                                                         const llb::Platform& /*platform*/,
                                                         frontend::ResolveMode /*mode*/,
                                                         const std::string& /*log_name*/, Stop /*stop*/) override {
        return fail(Code::not_found, Blame::user, "{}: not found", reference);
    }
    Result<frontend::ResolvedImage> resolve_oci_layout(const frontend::OciLayout& layout, const llb::Platform& /*p*/,
                                                       const std::string& /*log_name*/, Stop /*stop*/) override {
        return fail(Code::not_found, Blame::user, "{}: not found", layout.reference);
    }
    Result<std::vector<std::optional<std::string>>> read_local_files(const std::string& /*local_name*/,
                                                                     const std::vector<std::string>& paths,
                                                                     std::size_t /*limit_bytes*/,
                                                                     const std::string& /*log_name*/,
                                                                     Stop /*stop*/) override {
        return std::vector<std::optional<std::string>>(paths.size());
    }
    Result<std::optional<std::string>> read_file_of(const llb::Definition& /*definition*/, const std::string& /*path*/,
                                                    std::size_t /*limit_bytes*/, Stop /*stop*/) override {
        return std::nullopt;
    }
    Result<std::optional<frontend::ContextStat>> stat_of(const llb::Definition& /*definition*/,
                                                         const std::string& /*path*/, Stop /*stop*/) override {
        return std::nullopt;
    }
    Result<std::string> peek_http(const std::string& /*url*/, std::size_t /*limit_bytes*/, Stop /*stop*/) override {
        return std::string();
    }
};

SubrequestAnswer ask(std::string_view id, const std::string& text, const ConvertOptions& options = {}) {
    EmptyBridge bridge;
    auto answer = answer_subrequest(id, text, options, bridge, Stop{});
    EXPECT_TRUE(answer) << (answer ? "" : answer.error().to_string());
    return answer ? std::move(*answer) : SubrequestAnswer{};
}

TEST(Subrequest, UnknownIds) {
    EmptyBridge bridge;
    const auto answer = answer_subrequest("frontend.dance", "FROM scratch\n", {}, bridge, Stop{});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code(), Code::unimplemented);
    EXPECT_EQ(answer.error().message(), "unsupported request frontend.dance");
    EXPECT_FALSE(is_subrequest("frontend.dance"));
    EXPECT_TRUE(is_subrequest(kRequestLint));
}

TEST(Subrequest, Describe) {
    const auto answer = ask(kRequestDescribe, "");
    EXPECT_EQ(answer.at("version"), "1.0.0");
    const auto list = nlohmann::json::parse(answer.at("result.json"));
    ASSERT_EQ(list.size(), 3U);
    EXPECT_EQ(list[0]["name"], "frontend.outline");
    EXPECT_EQ(list[0]["type"], "rpc");
    EXPECT_EQ(list[0]["opts"][0]["name"], "target");
    EXPECT_TRUE(list[1]["opts"].empty() && list[1]["opts"].is_array());
    EXPECT_TRUE(list[2]["opts"].is_null());
    EXPECT_EQ(list[2]["metadata"].size(), 2U);
}

TEST(Subrequest, TargetsAreWrittenAsGoDoes) {
    const auto answer = ask(kRequestTargets, "FROM a AS x\n");
    EXPECT_EQ(answer.at("result.json"), R"({
  "targets": [
    {
      "name": "x",
      "default": true,
      "base": "a",
      "location": {
        "ranges": [
          {
            "start": {
              "line": 1
            },
            "end": {
              "line": 1
            }
          }
        ]
      }
    }
  ],
  "sources": [
    "RlJPTSBhIEFTIHgK"
  ]
})");
    EXPECT_EQ(answer.at("result.txt"), "TARGET      DESCRIPTION\nx (default) \n");
}

TEST(Subrequest, OutlineFollowsWhatIsUsed) {
    const std::string text =
        "ARG A=1\nARG A=${A}2\nARG B=$A\nARG C=no\nFROM scratch${B#12} AS one\n# D says something\nARG D\nFROM one\n";
    const auto outline = nlohmann::json::parse(ask(kRequestOutline, text).at("result.json"));
    ASSERT_EQ(outline["args"].size(), 3U);
    EXPECT_EQ(outline["args"][0]["name"], "A");
    EXPECT_EQ(outline["args"][0]["value"], "12");
    EXPECT_EQ(outline["args"][1]["name"], "B");
    EXPECT_EQ(outline["args"][2]["description"], "says something");
    EXPECT_FALSE(outline.contains("name"));
    EXPECT_EQ(ask(kRequestOutline, "FROM scratch\n").at("result.txt"), "");
}

TEST(Subrequest, LintStatus) {
    EXPECT_EQ(ask(kRequestLint, "FROM scratch\n").at("result.statuscode"), "0");
    EXPECT_EQ(ask(kRequestLint, "FROM scratch AS X\n").at("result.statuscode"), "1");
    const auto broken = ask(kRequestLint, "FROM scratch\nFRM x\n");
    EXPECT_EQ(broken.at("result.statuscode"), "1");
    EXPECT_EQ(broken.at("result.txt"), "");
    EXPECT_NE(broken.at("result.json").find("buildError"), std::string::npos);
    const auto missing = parse_check_report(ask(kRequestLint, "FROM nowhere:1\n").at("result.json"));
    ASSERT_TRUE(missing && missing->error);
    EXPECT_EQ(missing->error->message, "nowhere:1: docker.io/library/nowhere:1: not found");
    EXPECT_EQ(missing->error->lines, (Lines{1, 1}));
}

TEST(CheckReport, ComesBackAsItWent) {
    CheckReport report{.filename = "Dockerfile", .text = "FROM a\nRUN b\n", .findings = {}, .error = {}};
    report.findings.push_back({"Rule", "why", "https://example.com/", "what \"x\"", {2, 3}});
    report.findings.push_back({"Other", "", "", "nowhere", {}});
    report.error = CheckError{"broken", {1, 1}};
    const auto back = parse_check_report(to_json(report));
    ASSERT_TRUE(back) << back.error().to_string();
    EXPECT_EQ(back->filename, report.filename);
    EXPECT_EQ(back->text, report.text);
    ASSERT_EQ(back->findings.size(), 2U);
    EXPECT_EQ(back->findings[0].detail, "what \"x\"");
    EXPECT_EQ(back->findings[0].lines, (Lines{2, 3}));
    EXPECT_EQ(back->findings[1].lines, Lines{});
    EXPECT_EQ(back->error->message, "broken");
    EXPECT_NE(to_text(*back).find("WARNING: Rule - https://example.com/\nwhat \"x\"\nDockerfile:2\n"),
              std::string::npos);
    EXPECT_EQ(error_text(*back).substr(0, 7), "broken\n");
}

TEST(CheckReport, StrangeReportsAreRefusedOrReadAsFarAsTheyGo) {
    EXPECT_FALSE(parse_check_report(""));
    EXPECT_FALSE(parse_check_report("[]"));
    EXPECT_FALSE(parse_check_report(R"({"warnings":[1]})"));
    EXPECT_FALSE(parse_check_report(R"({"sources":[{"data":"%"}]})"));
    const auto report = parse_check_report(
        R"({"warnings":[{"location":{"ranges":[{"start":{"line":9007199254740993},"end":{"line":-1}}]}}],"sources":null})");
    ASSERT_TRUE(report);
    EXPECT_EQ(report->findings.at(0).lines, Lines{});
    EXPECT_EQ(to_text(*report), "\nWARNING: \n\n");
}

TEST(CheckReport, SarifPaths) {
    CheckReport report{.filename = "Dockerfile", .text = "", .findings = {}, .error = CheckError{"broken", {}}};
    const auto sarif = nlohmann::json::parse(to_sarif(report, "a b/c:d/Döcker%"));
    const auto& result = sarif["runs"][0]["results"][0];
    EXPECT_EQ(result["level"], "error");
    EXPECT_EQ(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "a%20b/c%3Ad/D%C3%B6cker%25");
    EXPECT_FALSE(result["locations"][0]["physicalLocation"].contains("region"));
    EXPECT_TRUE(nlohmann::json::parse(to_sarif({}, "x"))["runs"][0]["results"].empty());
}

}  // namespace
}  // namespace cooper::dockerfile
