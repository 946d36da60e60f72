#include "base/text.hpp"
#include "dockerfile/csv.hpp"
#include "dockerfile/go_duration.hpp"
#include "dockerfile/instructions.hpp"

#include <gtest/gtest.h>

namespace cooper::dockerfile {
namespace {

Result<std::string> verbatim(std::string_view value) { return std::string(value); }

// What differs from a bind mount of nothing.
std::string shown(std::string_view csv) {
    const auto mount = parse_mount(csv, verbatim);
    if (!mount) return mount.error().to_string();
    static constexpr std::array<const char*, 5> kKinds = {"bind", "cache", "tmpfs", "secret", "ssh"};
    static constexpr std::array<const char*, 3> kSharing = {"shared", "private", "locked"};
    std::string out = kKinds[static_cast<std::size_t>(mount->type)];
    out += mount->readonly ? " ro" : " rw";
    const auto add = [&](const char* key, const std::string& value) {
        if (!value.empty()) out += fmt::format(" {}={}", key, value);
    };
    add("from", mount->from);
    add("source", mount->source);
    add("target", mount->target);
    add("id", mount->id);
    add("env", mount->env.value_or(""));
    if (mount->size_bytes != 0) out += fmt::format(" size={}", mount->size_bytes);
    if (mount->sharing != MountSharing::shared) add("sharing", kSharing[static_cast<std::size_t>(mount->sharing)]);
    if (mount->required) out += " required";
    if (mount->mode) out += fmt::format(" mode={:o}", *mount->mode);
    if (mount->uid) out += fmt::format(" uid={}", *mount->uid);
    if (mount->gid) out += fmt::format(" gid={}", *mount->gid);
    return out;
}

TEST(Mounts, Table) {
    const std::vector<std::pair<const char*, const char*>> cases = {
        {"target=/x", "bind ro target=/x"},
        {"type=bind,source=a,target=/x,rw", "bind rw source=a target=/x"},
        {"type=bind,src=a,dst=/x,rw=false", "bind ro source=a target=/x"},
        {"TYPE=BIND,destination=/x,ReadWrite", "bind rw target=/x"},
        {"type=bind,from=stage,target=/x", "bind ro from=stage target=/x"},
        {"type=bind", "bind ro"},
        {"type=cache,target=/c", "cache rw target=/c"},
        {"type=cache,target=/c,ro", "cache ro target=/c"},
        {"type=cache,target=/c,readonly=1", "cache ro target=/c"},
        {"type=cache,id=i,target=/c,sharing=LOCKED,mode=0700,uid=1,gid=2",
         "cache rw target=/c id=i sharing=locked mode=700 uid=1 gid=2"},
        {"type=cache,target=/c,from=s,source=/seed,sharing=private",
         "cache rw from=s source=/seed target=/c sharing=private"},
        {"type=tmpfs,target=/t", "tmpfs rw target=/t"},
        {"type=tmpfs,target=/t,size=64m", "tmpfs rw target=/t size=67108864"},
        {"type=tmpfs,target=/t,size=1.5K", "tmpfs rw target=/t size=1536"},
        {"type=tmpfs,target=/t,size=2 GiB", "tmpfs rw target=/t size=2147483648"},
        {"type=tmpfs,target=/t,size=100", "tmpfs rw target=/t size=100"},
        {"type=tmpfs,target=/t,size=7b", "tmpfs rw target=/t size=7"},
        {"type=secret,id=s", "secret ro id=s"},
        {"type=secret,source=s,required", "secret ro source=s required"},
        {"type=secret,id=s,env=TOKEN,required=true", "secret ro id=s env=TOKEN required"},
        {"type=secret,target=/run/x,mode=0440", "secret ro target=/run/x mode=440"},
        {"type=ssh", "ssh ro"},
        {"type=ssh,id=k,required,target=/s,uid=0", "ssh ro target=/s id=k required uid=0"},
        {"\"target=/a,b\",type=tmpfs", "tmpfs rw target=/a,b"},
        {"target=\"/x\"", "a quote inside the field \"target=\\\"/x\\\"\""},
        {"type=nope", "unsupported mount type \"nope\""},
        {"type=cash,target=/c", "unsupported mount type \"cash\" (did you mean cache?)"},
        {"target=/x,required", "unexpected key 'required' for mount type 'bind'"},
        {"required,type=secret,id=x", "unexpected key 'required' for mount type 'bind'"},
        {"size=1,type=tmpfs,target=/x", "unexpected key 'size' for mount type 'bind'"},
        {"type=tmpfs,target=/x,size=1x", "invalid value for size: 1x"},
        {"type=tmpfs,target=/x,size=", "invalid value for size: "},
        {"type=tmpfs,target=/x,size=-1", "invalid value for size: -1"},
        {"type=tmpfs,target=/x,size=9999p", "invalid value for size: 9999p"},
        {"targt=/x", "unexpected key 'targt' in 'targt=/x' (did you mean target?)"},
        {"nonsense=1", "unexpected key 'nonsense' in 'nonsense=1'"},
        {"target", "invalid field 'target' must be a key=value pair"},
        {"target=/x,rw=perhaps", "invalid value for rw: perhaps"},
        {"target=/x,ro=", "invalid value for ro: "},
        {"target=/x,mode=0755", "mode not allowed for \"bind\" type mounts"},
        {"type=tmpfs,target=/x,uid=1", "uid not allowed for \"tmpfs\" type mounts"},
        {"type=cache,target=/x,mode=9", "invalid value 9 for mode"},
        {"type=cache,target=/x,uid=-1", "invalid value -1 for uid"},
        {"type=cache,target=/x,gid=4294967296", "invalid value 4294967296 for gid"},
        {"target=/x,sharing=locked", "invalid cache sharing set for bind mount"},
        {"type=cache,target=/x,sharing=lock", "unsupported sharing value \"lock\" (did you mean locked?)"},
        {"type=secret", "invalid secret mount. one of source, target required"},
        {"type=secret,id=a,source=b", "both source and id can't be set"},
        {"type=secret,id=a,from=b", "secret mount should not have a from"},
        {"type=secret,id=a,sharing=shared", "secret mount should not define sharing"},
        {"", "failed to parse csv mounts: there is nothing"},
    };
    for (const auto& [csv, expected] : cases) EXPECT_EQ(shown(csv), expected) << csv;
}

TEST(Mounts, BeforeAStepIsReachedOnlyFromCounts) {
    EXPECT_EQ(parse_mount("type=$T,required,from=stage,targt=$X", nullptr)->from, "stage");
    EXPECT_EQ(parse_mount("from=a$", nullptr)->from, "a$");
    for (const char* csv : {"from=$X", "type=cache,from=a${X}b"}) {
        EXPECT_EQ(parse_mount(csv, nullptr).error().message(),
                  "'from' doesn't support variable expansion, define alias stage instead");
    }
    EXPECT_FALSE(parse_mount("\"open", nullptr));
    RunCommand run;
    run.mount_flags = {"type=bind,from=a,target=/x", "type=tmpfs,target=/y", "from=b"};
    EXPECT_EQ(mount_sources(run), (std::vector<std::string>{"a", "", "b"}));
}

TEST(Mounts, ValuesAreExpanded) {
    const auto mount = parse_mount("type=CACHE,id=$A,target=/$A", [](std::string_view value) -> Result<std::string> {
        if (value == "$A") return std::string("one");
        return value == "/$A" ? std::string("/two,three") : std::string(value);
    });
    ASSERT_TRUE(mount);
    EXPECT_EQ(mount->id, "one");
    EXPECT_EQ(mount->target, "/two,three");
    EXPECT_FALSE(parse_mount("target=$A", [](std::string_view) -> Result<std::string> { return bad_input("no"); }));
}

TEST(Csv, Fields) {
    const auto fields = [](std::string_view line) {
        const auto read = parse_csv_line(line);
        return read ? join(*read, "|") : "error";
    };
    EXPECT_EQ(fields("a,b"), "a|b");
    EXPECT_EQ(fields("a,,"), "a||");
    EXPECT_EQ(fields(",\"b,\"\"c\"\"\",d"), "|b,\"c\"|d");
    EXPECT_EQ(fields("\"\""), "");
    EXPECT_EQ(fields("\"a"), "error");
    EXPECT_EQ(fields("\"a\"b"), "error");
    EXPECT_EQ(fields("a\"b"), "error");
}

TEST(GoDuration, Table) {
    const std::vector<std::pair<const char*, std::int64_t>> good = {{"0", 0},
                                                                    {"5s", 5'000'000'000},
                                                                    {"1h30m", 5'400'000'000'000},
                                                                    {"1.5s", 1'500'000'000},
                                                                    {".5s", 500'000'000},
                                                                    {"300ms", 300'000'000},
                                                                    {"10us", 10'000},
                                                                    {"1µs", 1000},
                                                                    {"3ns", 3},
                                                                    {"-2m", -120'000'000'000},
                                                                    {"+1s", 1'000'000'000},
                                                                    {"1m1s", 61'000'000'000}};
    for (const auto& [text, value] : good) EXPECT_EQ(parse_go_duration(text).value(), value) << text;
    for (const char* text : {"", "5", "s", "1x", "1.s.", "--1s", "1 s", ".s", "99999999h", "1s1"}) {
        EXPECT_FALSE(parse_go_duration(text)) << text;
    }
}

}  // namespace
}  // namespace cooper::dockerfile
