#include "dockerfile/lint.hpp"

#include "dockerfile/convert_args.hpp"
#include "dockerfile/lint_text.hpp"

#include <gtest/gtest.h>

namespace cooper::dockerfile {
namespace {

using Lints = std::vector<std::string>;

Lints shown(const Linter& linter) {
    Lints out;
    for (const LintWarning& warning : linter.warnings()) {
        out.push_back(
            fmt::format("{} {}: {}", warning.lines.first, lint_rule_info(warning.rule).name, warning.message));
    }
    return out;
}

// What conversion does, without converting.
Linter lint_all(const std::string& text) {
    const ParsedFile file = parse(text, "Dockerfile").value();
    const StageList list = parse_stages(file).value();
    Linter linter(LintConfig::parse_directive(file.check).value());
    lint_text(linter, file, list);
    lint_stages(linter, list);
    const oci::Platform amd{"linux", "amd64", "", "", {}};
    const llb::EnvList automatic = automatic_args(amd, amd, {}, "");
    llb::EnvList global = automatic;
    for (const Instruction& instruction : list.meta_args) {
        for (const auto& arg : std::get<ArgCommand>(instruction.command).args) {
            if (arg.value) global.set(arg.key, *arg.value);
        }
    }
    lint_bases(linter, list, ShellLex(file.escape), automatic, global);
    for (const Stage& stage : list.stages) {
        UsedOnce once;
        for (const Instruction& instruction : stage.commands) {
            lint_keys(linter, instruction);
            lint_shell_form(linter, instruction, ShellInEffect::standard);
            once.see(linter, instruction);
            if (const auto* workdir = std::get_if<WorkdirCommand>(&instruction.command)) {
                lint_workdir(linter, instruction, workdir->path);
            }
        }
    }
    return linter;
}

Lints lints(const std::string& text) { return shown(lint_all(text)); }

TEST(Lint, CleanFile) {
    EXPECT_EQ(lints("ARG V=1\nFROM alpine:$V AS build\nENV A=b\nRUN make\nFROM build\nWORKDIR /x\nCMD [\"x\"]\n"),
              Lints{});
    EXPECT_EQ(lints("from alpine as b\nrun x\n"), Lints{});
}

TEST(Lint, Casing) {
    EXPECT_EQ(lints("FROM a AS Build\n"), Lints{"1 StageNameCasing: Stage name 'Build' should be lowercase"});
    EXPECT_EQ(lints("FROM a as b\n"), Lints{"1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"});
    EXPECT_EQ(lints("from a AS b\n"), Lints{"1 FromAsCasing: 'AS' and 'from' keywords' casing do not match"});
    EXPECT_EQ(lints("FROM a As b\n"), Lints{"1 FromAsCasing: 'As' and 'FROM' keywords' casing do not match"});
    EXPECT_EQ(lints("From a aS b\n"),
              Lints{"1 ConsistentInstructionCasing: Command 'From' should match the case of the command majority "
                    "(uppercase)"});
    EXPECT_EQ(lints("FROM a\nrun b\nRUN c\n"),
              Lints{"2 ConsistentInstructionCasing: Command 'run' should match the case of the command majority "
                    "(uppercase)"});
    EXPECT_EQ(lints("from a\nrun b\nRUN c\n"),
              Lints{"3 ConsistentInstructionCasing: Command 'RUN' should match the case of the command majority "
                    "(lowercase)"});
    EXPECT_EQ(lints("FROM a\nrun b\n").size(), 1U);  // a tie is upper case
    EXPECT_EQ(lints("arg x=1\nFROM a\n"), Lints{});  // global arguments do not count
}

TEST(Lint, StageNames) {
    EXPECT_EQ(lints("FROM a AS b\nFROM a AS b\n"),
              Lints{"2 DuplicateStageName: Duplicate stage name \"b\", stage names should be unique"});
    EXPECT_EQ(lints("FROM a AS scratch\nFROM a AS context\n"),
              (Lints{"1 ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\"",
                     "2 ReservedStageName: Stage name should not use the same name as reserved stage \"context\""}));
}

TEST(Lint, SmallThings) {
    EXPECT_EQ(lints("FROM a\nRUN x \\\n\n y\n"), Lints{"4 NoEmptyContinuation: Empty continuation line"});
    EXPECT_EQ(lints("FROM a\nMAINTAINER m\n"),
              Lints{"2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label"});
    EXPECT_EQ(
        lints("FROM a\nENV a b\nLABEL c d\n"),
        (Lints{"2 LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
               "3 LegacyKeyValueFormat: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" "
               "format"}));
    EXPECT_EQ(lints("FROM a\nCMD x\n"), Lints{"2 JSONArgsRecommended: JSON arguments recommended for CMD to prevent "
                                              "unintended behavior related to OS signals"});
    EXPECT_EQ(lints("FROM a\nWORKDIR x/y\n"),
              Lints{"2 WorkdirRelativePath: Relative workdir \"x/y\" can have unexpected results if the base image "
                    "changes"});
    EXPECT_EQ(lints("FROM a\nCMD [\"1\"]\nCMD [\"2\"]\nHEALTHCHECK NONE\nCMD [\"3\"]\nFROM a\nCMD [\"4\"]\n"),
              (Lints{"2 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage "
                     "because only the last one will be used",
                     "3 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage "
                     "because only the last one will be used"}));
}

TEST(Lint, ShellInEffect) {
    const auto stage = parse_stages(parse("FROM a\nENTRYPOINT x\n", "D").value()).value().stages[0];
    Linter linter({});
    lint_shell_form(linter, stage.commands[0], ShellInEffect::chosen);
    EXPECT_EQ(shown(linter), Lints{});
}

TEST(Lint, Bases) {
    EXPECT_EQ(lints("ARG VERSION=1\nFROM a:${VERSON}1\n"),
              Lints{"2 UndefinedArgInFrom: FROM argument 'VERSON' is not declared (did you mean VERSION?)"});
    EXPECT_EQ(lints("FROM --platform=$XYZZYX a\n"),
              Lints{"1 UndefinedArgInFrom: FROM argument 'XYZZYX' is not declared"});
    EXPECT_EQ(lints("ARG B\nFROM ${B:-x}\n"), Lints{});
    EXPECT_EQ(lints("ARG TAG\nFROM busybox:${TAG}\n"),
              Lints{"2 InvalidDefaultArgInFrom: Default value for ARG busybox:${TAG} results in empty or invalid base "
                    "image name"});
    EXPECT_EQ(lints("FROM --platform=$TARGETPLATFORM a\n"),
              Lints{"1 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as "
                    "this is the default behavior"});
    EXPECT_EQ(lints("FROM --platform=$BUILDPLATFORM a\n"), Lints{});
    EXPECT_EQ(lints("FROM --platform=linux/amd64 a AS b\n"),
              Lints{"1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "
                    "\"linux/amd64\""});
    EXPECT_EQ(lints("FROM --platform=linux/amd64 a AS b_amd64\n"), Lints{});
    EXPECT_EQ(lints("FROM --platform=nonsense/x/y/z a\n"), Lints{});
}

TEST(Lint, Secrets) {
    const auto secret = [](const std::string& key) { return !lints("FROM a\nARG " + key + "\n").empty(); };
    for (const char* key : {"KEY", "api_key", "apikey", "DATABASE_PASSWORD", "GITHUB_TOKEN", "secret_MESSAGE", "AUTH",
                            "pword", "X_passwd_Y", "CREDENTIALS", "credential_x"}) {
        EXPECT_TRUE(secret(key)) << key;
    }
    for (const char* key : {"KEYBOARD", "author", "TOKENS", "PUBLIC_KEY", "key_file", "TOKEN_VERSION", "MONKEY"}) {
        EXPECT_FALSE(secret(key)) << key;
    }
    EXPECT_EQ(
        lints("FROM a\nENV A=b MY_TOKEN=x\nARG KEY=1\n"),
        (Lints{"2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"MY_TOKEN\")",
               "3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"KEY\")"}));
}

TEST(Lint, DescriptionsAreExperimental) {
    const std::string text =
        "\n# wrong\nARG a=1\n# b fine\nARG b=1\n# wrong\nARG c d\n# s fine\nFROM x AS s\n# no\nFROM x\n"
        "# far\n\nFROM x AS t\n# near\nFROM x AS u\n";
    EXPECT_EQ(lints(text), Lints{});
    EXPECT_EQ(
        lints("# check=experimental=InvalidDefinitionDescription" + text),
        (Lints{"3 InvalidDefinitionDescription: Comment for ARG should follow the format: `# a <description>`",
               "7 InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> "
               "<description>`",
               "16 InvalidDefinitionDescription: Comment for FROM should follow the format: `# u <description>`"}));
    EXPECT_EQ(lints("# check=skip=all;experimental=all" + text).size(), 3U);
}

TEST(Lint, Options) {
    const std::string text = "FROM a as b\nMAINTAINER m\n";
    EXPECT_EQ(lints("# check=skip=FromAsCasing\n" + text).size(), 1U);
    EXPECT_EQ(lints("# check=skip=FromAsCasing, MaintainerDeprecated\n" + text).size(), 1U);  // ends at the blank
    EXPECT_EQ(lints("# check=skip=FromAsCasing,MaintainerDeprecated;error=true\n" + text).size(), 0U);
    EXPECT_EQ(lints("# check=skip=all\n" + text).size(), 0U);

    const LintConfig all = LintConfig::parse(" skip=A, B ;experimental=all; error = 1 ").value();
    EXPECT_TRUE(all.skip.contains("B"));
    EXPECT_TRUE(all.experimental_all);
    EXPECT_TRUE(all.error);
    EXPECT_FALSE(LintConfig::parse("").value().error);
    EXPECT_EQ(LintConfig::parse("skp=A").error().message(), "invalid check option \"skp\" (did you mean skip?)");
    EXPECT_EQ(LintConfig::parse("skip").error().message(), "invalid check option \"skip\"");
    EXPECT_EQ(LintConfig::parse("error=perhaps").error().message(), "failed to parse check option \"error=perhaps\"");
    EXPECT_FALSE(LintConfig::parse("skip=A;error=true;experimental=B;skip=C").value().experimental.empty());
}

TEST(Lint, OptionsAboveAnInstruction) {
    EXPECT_EQ(lints("FROM a\n# check=skip=MaintainerDeprecated\nMAINTAINER m\nMAINTAINER n\n"),
              Lints{"4 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label"});
    EXPECT_EQ(lints("\n# check=skip=all;error=true\nFROM a as B\nMAINTAINER n\n").size(), 1U);
    EXPECT_TRUE(lint_all("\n# check=error=true\nFROM a as b\n").verdict());
    EXPECT_EQ(lints("\n# check=nonsense\nFROM a as b\n").size(), 1U);
}

TEST(Lint, Verdict) {
    EXPECT_TRUE(lint_all("FROM a as b\n").verdict());
    EXPECT_TRUE(lint_all("# check=error=true\nFROM a\n").verdict());
    const auto verdict = lint_all("# check=error=true\nFROM a as b\nMAINTAINER m\nMAINTAINER n\n").verdict();
    ASSERT_FALSE(verdict);
    EXPECT_EQ(verdict.error().message(), "lint violation found for rules: FromAsCasing, MaintainerDeprecated");
}

TEST(Lint, WhatConversionKnows) {
    const StageList list = parse_stages(parse("FROM a\nCOPY x /\nADD y /\nEXPOSE 80/TCP\n", "D").value()).value();
    const auto& commands = list.stages[0].commands;
    Linter linter({});
    llb::EnvList env;
    env.set("VERSION", "1");
    lint_variables(linter, commands[0], {"VERSON", "ARGUMENT", "BUILDKIT_SBOM_SCAN_STAGE", "Q"}, {"ARGUMENT"}, env);
    lint_port_protocol(linter, commands[2], "80/TCP");
    lint_port_host(linter, commands[2], "127.0.0.1:80:80");
    lint_base_platform(linter, list.stages[0], "img", {"linux", "arm64", "v8", "", {}}, {"linux", "amd64", "", "", {}});
    lint_base_platform(linter, list.stages[0], "img", {"linux", "arm", "v7", "", {}}, {"linux", "arm", "v6", "", {}});
    EXPECT_EQ(shown(linter),
              (Lints{"2 UndefinedVar: Usage of undefined variable '$Q'",
                     "2 UndefinedVar: Usage of undefined variable '$VERSON' (did you mean $VERSION?)",
                     "4 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
                     "4 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, "
                     "found '127.0.0.1:80:80'",
                     "1 InvalidBaseImagePlatform: Base image img was pulled with platform \"linux/amd64\", expected "
                     "\"linux/arm64\" for current build"}));
}

TEST(Lint, IgnoredSources) {
    const StageList list = parse_stages(parse("FROM a\nCOPY x /\nADD y /\n", "D").value()).value();
    const auto& commands = list.stages[0].commands;
    const auto check = [&](std::size_t command, const char* source, const Lints& patterns) {
        Linter linter({});
        lint_copy_source(linter, commands[command], source, codec::PatternMatcher::create(patterns).value(), patterns);
        return linter.warnings().empty() ? std::string() : linter.warnings()[0].message;
    };
    EXPECT_EQ(check(0, "dir/secret", {"dir"}),
              "Attempting to Copy file \"dir/secret\" that is excluded by .dockerignore");
    EXPECT_EQ(check(1, "./a.log", {"*.log"}), "Attempting to Add file \"a.log\" that is excluded by .dockerignore");
    EXPECT_EQ(check(0, "a.log", {"*.log", "!b.log"}), "");
    EXPECT_EQ(check(0, "a", {}), "");
    EXPECT_EQ(check(0, ".", {"a"}), "");
    EXPECT_EQ(check(0, ".", {"*"}), "Attempting to Copy file \".\" that is excluded by .dockerignore");
}

TEST(Lint, Events) {
    const WarningEvent event = to_event({LintRule::from_as_casing, "m", {3, 4}}, "Dockerfile");
    EXPECT_EQ(event.short_text, "FromAsCasing: m (line 3)");
    EXPECT_EQ(event.detail, Lints{"The 'as' keyword should match the case of the 'from' keyword"});
    EXPECT_EQ(event.url, "https://docs.docker.com/go/dockerfile/rule/from-as-casing/");
    EXPECT_EQ(event.rule, "FromAsCasing");
    EXPECT_EQ(event.range->last_line, 4);
}

TEST(Lint, RulesAreDescribed) {
    for (std::size_t i = 0; i < kLintRules; ++i) {
        const LintRuleInfo& info = lint_rule_info(static_cast<LintRule>(i));
        EXPECT_FALSE(info.name.empty());
        EXPECT_FALSE(info.description.empty());
        EXPECT_EQ(info.own, info.name.starts_with("Cooper"));
        // Ours are explained in docs/checks.md, which has no address. BuildKit has no page for this one.
        EXPECT_EQ(info.url.empty(), info.own || info.name == "InvalidBaseImagePlatform") << info.name;
        EXPECT_EQ(info.experimental,
                  info.name == "InvalidDefinitionDescription" || info.name == "CooperUnpinnedPackage")
            << info.name;
    }
}

}  // namespace
}  // namespace cooper::dockerfile
