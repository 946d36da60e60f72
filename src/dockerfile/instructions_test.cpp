#include "dockerfile/instructions.hpp"

#include "base/text.hpp"

#include <fmt/ranges.h>
#include <gtest/gtest.h>

namespace cooper::dockerfile {
namespace {

Result<StageList> stages_of(std::string_view text) { return parse_stages(TRY(parse(text, "Dockerfile"))); }

// The instruction `line` behind "FROM a".
Result<Instruction> one(std::string_view line) {
    auto list = TRY(stages_of("FROM a\n" + std::string(line) + "\n"));
    if (list.stages[0].commands.size() != 1) return bad_input("not one instruction");
    return std::move(list.stages[0].commands[0]);
}

template <class T>
T made(std::string_view line) {
    auto instruction = one(line);
    EXPECT_TRUE(instruction) << line << ": " << instruction.error().to_string();
    if (!instruction) return {};
    EXPECT_TRUE(std::holds_alternative<T>(instruction->command)) << line;
    return std::get<T>(std::move(instruction->command));
}

std::string pairs(const std::vector<KeyValue>& list) {
    std::string out;
    for (const KeyValue& pair : list) out += pair.key + "=" + pair.value + ";";
    return out;
}

TEST(Instructions, EveryKind) {
    EXPECT_EQ(pairs(made<EnvCommand>("ENV a=b c=d").pairs), "a=b;c=d;");
    EXPECT_EQ(pairs(made<LabelCommand>("LABEL x y z").pairs), "x=y z;");
    EXPECT_EQ(made<MaintainerCommand>("MAINTAINER A  B <c@d>").name, "A  B <c@d>");
    EXPECT_EQ(made<WorkdirCommand>("WORKDIR /a b").path, "/a b");
    EXPECT_EQ(made<UserCommand>("USER u:g").user, "u:g");
    EXPECT_EQ(made<StopsignalCommand>("STOPSIGNAL --x SIGTERM").signal, "SIGTERM");
    EXPECT_EQ(made<ExposeCommand>("EXPOSE 90 80/tcp $P").ports, (std::vector<std::string>{"$P", "80/tcp", "90"}));
    EXPECT_EQ(made<VolumeCommand>("VOLUME [\" /a b \", \"/c\"]").paths, (std::vector<std::string>{"/a b", "/c"}));
    EXPECT_EQ(made<ShellCommand>("SHELL [\"/bin/bash\", \"-c\"]").words, (std::vector<std::string>{"/bin/bash", "-c"}));
    EXPECT_EQ(made<OnbuildCommand>("onbuild  COPY --from=x a b").expression, "COPY --from=x a b");
}

TEST(Instructions, CommandForms) {
    const auto shell = made<CmdCommand>("CMD echo  \"a\" $b");
    EXPECT_TRUE(shell.prepend_shell);
    EXPECT_EQ(shell.words, std::vector<std::string>{"echo  \"a\" $b"});
    const auto exec = made<CmdCommand>("CMD [\"a\", \"b c\"]");
    EXPECT_FALSE(exec.prepend_shell);
    EXPECT_EQ(exec.words, (std::vector<std::string>{"a", "b c"}));
    EXPECT_FALSE(made<CmdCommand>("CMD []").prepend_shell);
    EXPECT_TRUE(made<EntrypointCommand>("ENTRYPOINT []").words.empty());
    EXPECT_TRUE(made<EntrypointCommand>("ENTRYPOINT [a]").prepend_shell);
    EXPECT_EQ(made<RunCommand>("RUN").words, std::vector<std::string>{""});
    EXPECT_EQ(made<RunCommand>("RUN [\"ls\"]").words, std::vector<std::string>{"ls"});
}

TEST(Instructions, Arg) {
    auto list = stages_of("# v the version\n# w of what\nARG v=1 w x=\n# base the base\nFROM a AS Base\n").value();
    ASSERT_EQ(list.meta_args.size(), 1U);
    const auto& args = std::get<ArgCommand>(list.meta_args[0].command).args;
    ASSERT_EQ(args.size(), 3U);
    EXPECT_EQ(args[0].value, "1");
    EXPECT_EQ(args[0].description, "the version");
    EXPECT_EQ(args[1].value, std::nullopt);
    EXPECT_EQ(args[1].description, "of what");
    EXPECT_EQ(args[2].value, "");
    EXPECT_EQ(list.stages[0].description, "the base");
    EXPECT_TRUE(one("ARG --x a"));
}

TEST(Instructions, CopyAndAdd) {
    const auto copy = made<CopyCommand>(
        "COPY --from=s --chown=1:2 --chmod=0644 --link --parents=TRUE --exclude=*.md --exclude=x a b /c/");
    EXPECT_EQ(copy.from, "s");
    EXPECT_EQ(copy.chown, "1:2");
    EXPECT_EQ(copy.chmod, "0644");
    EXPECT_TRUE(copy.link);
    EXPECT_TRUE(copy.parents);
    EXPECT_EQ(copy.exclude, (std::vector<std::string>{"*.md", "x"}));
    EXPECT_EQ(copy.files.paths, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(copy.files.dest, "/c/");
    EXPECT_FALSE(made<CopyCommand>("COPY --link=false a b").link);

    const auto add = made<AddCommand>("ADD --keep-git-dir=true --unpack=false --checksum=sha256:0 https://x/y /z");
    EXPECT_EQ(add.keep_git_dir, true);
    EXPECT_EQ(add.unpack, false);
    EXPECT_EQ(add.checksum, "sha256:0");
    EXPECT_EQ(made<AddCommand>("ADD a b").unpack, std::nullopt);
    EXPECT_EQ(one("COPY --link a b")->flags, std::vector<std::string>{"--link"});
}

TEST(Instructions, RunFlags) {
    const auto run = made<RunCommand>(
        "RUN --mount=type=cache,target=/c --mount=type=ssh --network=none --security=insecure "
        "--device=vendor.com/gpu=all,required ls -l");
    EXPECT_EQ(run.mount_flags, (std::vector<std::string>{"type=cache,target=/c", "type=ssh"}));
    EXPECT_EQ(run.network, RunNetwork::none);
    EXPECT_EQ(run.security, RunSecurity::insecure);
    ASSERT_EQ(run.devices.size(), 1U);
    EXPECT_EQ(run.devices[0].name, "vendor.com/gpu=all");
    EXPECT_TRUE(run.devices[0].required);
    EXPECT_EQ(run.words, std::vector<std::string>{"ls -l"});
    EXPECT_EQ(made<RunCommand>("RUN --network=host x").network, RunNetwork::host);
    EXPECT_EQ(made<RunCommand>("RUN --network=default x").network, RunNetwork::standard);
}

TEST(Instructions, Healthcheck) {
    const auto shell =
        made<HealthcheckCommand>("HEALTHCHECK --interval=5m --timeout=3s --retries=2 CMD curl -f x").check;
    EXPECT_EQ(shell.test, (std::vector<std::string>{"CMD-SHELL", "curl -f x"}));
    EXPECT_EQ(shell.interval_ns, 300'000'000'000);
    EXPECT_EQ(shell.timeout_ns, 3'000'000'000);
    EXPECT_EQ(shell.retries, 2);
    const auto exec =
        made<HealthcheckCommand>("HEALTHCHECK --start-period=1s --start-interval=0 cmd [\"a\", \"b\"]").check;
    EXPECT_EQ(exec.test, (std::vector<std::string>{"CMD", "a", "b"}));
    EXPECT_EQ(exec.start_period_ns, 1'000'000'000);
    EXPECT_EQ(made<HealthcheckCommand>("HEALTHCHECK --nonsense NONE").check.test, std::vector<std::string>{"NONE"});
}

TEST(Instructions, From) {
    const auto stage = [](std::string_view line) {
        const auto list = stages_of(line);
        if (!list) return list.error().message();
        const Stage& first = list->stages[0];
        return fmt::format("{}|{}|{}|{}", first.base_name, first.name, first.platform, first.as_keyword);
    };
    EXPECT_EQ(stage("FROM a"), "a|||");
    EXPECT_EQ(stage("from --platform=$P a:1 As B-1_x.y"), "a:1|b-1_x.y|$P|As");
    EXPECT_EQ(stage("FROM ${X:-y}"), "${X:-y}|||");
    EXPECT_EQ(stage("FROM"), "FROM requires either one or three arguments");
    EXPECT_EQ(stage("FROM a AS"), "FROM requires either one or three arguments");
    EXPECT_EQ(stage("FROM a is b"), "FROM requires either one or three arguments");
    EXPECT_EQ(stage("FROM a AS b c"), "FROM requires either one or three arguments");
    for (const std::string name : {"1a", "a/b", "-a", "a:b", "é"}) {
        EXPECT_EQ(stage("FROM a AS " + name),
                  "invalid name for build stage: \"" + name + "\", name can't start with a number or contain symbols");
    }
    EXPECT_EQ(stage("FROM --plat=x a"), "unknown flag: --plat");
}

TEST(Instructions, Mistakes) {
    const std::vector<std::pair<const char*, const char*>> cases = {
        {"COPPY a b", "unknown instruction: COPPY (did you mean COPY?)"},
        {"xyzzy a", "unknown instruction: xyzzy"},
        {"FROMM a", "unknown instruction: FROMM (did you mean FROM?)"},
        {"ENV", "ENV requires at least one argument"},
        {"ENV a", "ENV must have two arguments"},
        {"ENV =b", "ENV names can not be blank"},
        {"ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"},
        {"ENV --x=1 a=b", "unknown flag: --x"},
        {"LABEL", "LABEL requires at least one argument"},
        {"ARG", "ARG requires at least one argument"},
        {"ARG =x", "ARG names can not be blank"},
        {"MAINTAINER", "MAINTAINER requires exactly one argument"},
        {"WORKDIR", "WORKDIR requires exactly one argument"},
        {"WORKDIR --x /a", "unknown flag: --x"},
        {"USER", "USER requires exactly one argument"},
        {"STOPSIGNAL", "STOPSIGNAL requires exactly one argument"},
        {"EXPOSE", "EXPOSE requires at least one argument"},
        {"VOLUME", "VOLUME requires at least one argument"},
        {"VOLUME []", "VOLUME requires at least one argument"},
        {"VOLUME [\" \"]", "VOLUME specified can not be an empty string"},
        {"SHELL", "SHELL requires at least one argument"},
        {"SHELL bash -c", "SHELL requires the arguments to be in JSON form"},
        {"CMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"},
        {"ONBUILD CMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"},
        {"CMD --x y", "unknown flag: --x"},
        {"ENTRYPOINT --x y", "unknown flag: --x"},
        {"COPY a",
         "COPY requires at least two arguments, but only 1 was provided. Destination could not be determined"},
        {"ADD", "ADD requires at least two arguments, but only 0 were provided. Destination could not be determined"},
        {"COPY --form=x a b", "unknown flag: --form (did you mean --from?)"},
        {"COPY --from a b", "missing a value on flag: --from"},
        {"COPY --from=x --from=y a b", "duplicate flag specified: --from"},
        {"COPY --link=maybe a b", "expecting boolean value for flag --link, not: maybe"},
        {"COPY --link= a b", "missing a value on flag: --link"},
        {"COPY --checksum=x a b", "unknown flag: --checksum"},
        {"ADD --from=x a b", "unknown flag: --from"},
        {"RUN []", "RUN requires at least one argument"},
        {"RUN --network=nope x", "unsupported network mode \"nope\" (did you mean none?)"},
        {"RUN --network=NONE x", "unsupported network mode \"NONE\" (did you mean none?)"},
        {"RUN --network=$X x", "unsupported network mode \"$X\""},
        {"RUN --security=Insecure x", "security \"Insecure\" is not valid (did you mean insecure?)"},
        {"RUN --security=unsafe x", "security \"unsafe\" is not valid"},
        {"RUN --mount=from=$X x", "'from' doesn't support variable expansion, define alias stage instead"},
        {"RUN --mont=x y", "unknown flag: --mont (did you mean --mount?)"},
        {"RUN --device=x,y=1 z", "unexpected key 'x' in --device \"x,y=1\""},
        {"HEALTHCHECK", "HEALTHCHECK requires at least one argument"},
        {"HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"},
        {"HEALTHCHECK CMD", "missing command after HEALTHCHECK CMD"},
        {"HEALTHCHECK CMD []", "missing command after HEALTHCHECK CMD"},
        {"HEALTHCHECK WHAT x", "unknown type \"WHAT\" in HEALTHCHECK (try CMD)"},
        {"HEALTHCHECK --interval=1us CMD x", "interval \"interval\" cannot be less than 1ms"},
        {"HEALTHCHECK --interval=x CMD x", "invalid duration \"x\""},
        {"HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative or text: \"-1\""},
        {"HEALTHCHECK --retires=1 CMD x", "unknown flag: --retires (did you mean --retries?)"},
        {"ONBUILD", "ONBUILD requires at least one argument"},
        {"ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"},
        {"ONBUILD from a", "FROM isn't allowed as an ONBUILD trigger"},
        {"ONBUILD MAINTAINER a", "MAINTAINER isn't allowed as an ONBUILD trigger"},
    };
    for (const auto& [line, message] : cases) {
        const auto instruction = one(line);
        ASSERT_FALSE(instruction) << line;
        EXPECT_EQ(instruction.error().message(), message) << line;
        EXPECT_TRUE(instruction.error().to_string().starts_with("dockerfile parse error on line 2: ")) << line;
        EXPECT_EQ(instruction.error().code(), Code::invalid_argument) << line;
        ASSERT_NE(instruction.error().find_detail<SourceRange>(), nullptr) << line;
        EXPECT_EQ(instruction.error().find_detail<SourceRange>()->first_line, 2) << line;
        EXPECT_NE(instruction.error().find_detail<Excerpt>(), nullptr) << line;
    }
}

TEST(Instructions, MistakesHaveColumns) {
    const auto where = [](std::string_view text) {
        const auto list = stages_of(text);
        const auto* range = list.error().find_detail<SourceRange>();
        return fmt::format("{}:{}-{}:{}", range->first_line, range->first_column, range->last_line, range->last_column);
    };
    EXPECT_EQ(where("FROM a\n  COPPY x y\n"), "2:3-2:7");
    EXPECT_EQ(where("FROM a\nCOPY \\\n  --link --form=x a b\n"), "3:10-3:17");
    EXPECT_EQ(where("FROM a AS 1b\n"), "1:11-1:12");
    EXPECT_EQ(where("FROM a\nRUN --network=nope x\n"), "2:15-2:18");
    EXPECT_EQ(where("FROM a\nUSER\n"), "2:0-2:0");
}

TEST(Stages, SplitAtFrom) {
    const auto list = stages_of("ARG a=1\nFROM x AS one\nRUN a\n\nFROM --platform=p one\nARG b\nCMD c\n").value();
    EXPECT_EQ(list.meta_args.size(), 1U);
    ASSERT_EQ(list.stages.size(), 2U);
    EXPECT_EQ(list.stages[0].commands.size(), 1U);
    EXPECT_EQ(list.stages[1].commands.size(), 2U);
    EXPECT_EQ(list.stages[1].name, "");
    EXPECT_EQ(list.stages[1].location, (Lines{5, 5}));
    EXPECT_EQ(list.stages[1].source_code, "FROM --platform=p one");
}

TEST(Stages, ManyMistakesAtOnce) {
    const auto list = stages_of("FROM a\nCOPPY x y\nRUN ok\nENV a\nUSER\n");
    ASSERT_FALSE(list);
    EXPECT_EQ(list.error().to_string(),
              "dockerfile parse error on line 2: unknown instruction: COPPY (did you mean COPY?)\n"
              "line 4: ENV must have two arguments\nline 5: USER requires exactly one argument");
    EXPECT_EQ(list.error().find_detail<Excerpt>()->text,
              "Dockerfile:2:1\n--------------------\n   1 |     FROM a\n   2 | >>> COPPY x y\n"
              "     |     ^^^^^\n   3 |     RUN ok\n"
              "   4 | >>> ENV a\n   5 | >>> USER\n--------------------\n");

    std::string many = "FROM a\n";
    for (int i = 0; i < 100; ++i) many += "USER\n";
    EXPECT_EQ(read_stages(parse(many, "D").value()).errors.size(), kMaxErrors);
}

TEST(Stages, BeforeTheFirstFrom) {
    const auto list = stages_of("RUN a\nENV b=c\n");
    ASSERT_FALSE(list);
    EXPECT_EQ(list.error().to_string(), "dockerfile parse error on line 1: no build stage in current context");
    EXPECT_EQ(stages_of("ARG a\n").value().stages.size(), 0U);
    // A broken FROM is one mistake, not one for each instruction behind it.
    EXPECT_EQ(read_stages(parse("FROM a b\nRUN c\nUSER u\n", "D").value()).errors.size(), 1U);
}

TEST(Stages, LargeFilesStayCheap) {
    std::string text;
    for (int i = 0; i < 500; ++i) {
        text +=
            fmt::format("FROM base AS s{}\nENV A=b C=\"d e\"\nRUN --mount=type=cache,target=/c make \\\n  all\n", i);
        for (int j = 0; j < 6; ++j) text += fmt::format("COPY --link a{} b{} /dst/\n", j, j);
    }
    const auto list = stages_of(text);
    ASSERT_TRUE(list);
    EXPECT_EQ(list->stages.size(), 500U);
    EXPECT_EQ(list->stages[499].commands.size(), 8U);
}

}  // namespace
}  // namespace cooper::dockerfile
