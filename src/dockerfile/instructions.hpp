// The second door: nodes to instructions, and instructions to stages. What an instruction means is in
// its type; words are not expanded yet. Pure, any thread.
// Errors: bad_input, "dockerfile parse error on line N: …", with a SourceRange that has columns when the
// mistake is one word.
#pragma once

#include "base/result.hpp"
#include "dockerfile/parse.hpp"
#include "oci/image_config.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace cooper::dockerfile {

struct EnvCommand {
    std::vector<KeyValue> pairs;
};
struct LabelCommand {
    std::vector<KeyValue> pairs;
};
struct MaintainerCommand {
    std::string name;
};
struct WorkdirCommand {
    std::string path;
};
struct UserCommand {
    std::string user;
};
// prepend_shell: shell form; words is then the one text.
struct CmdCommand {
    std::vector<std::string> words;
    bool prepend_shell = false;
};
struct EntrypointCommand {
    std::vector<std::string> words;
    bool prepend_shell = false;
};
struct HealthcheckCommand {
    oci::Healthcheck check;
};
struct ExposeCommand {
    std::vector<std::string> ports;  // sorted
};
struct VolumeCommand {
    std::vector<std::string> paths;
};
struct StopsignalCommand {
    std::string signal;
};
struct ShellCommand {
    std::vector<std::string> words;
};
struct ArgCommand {
    struct Arg {
        std::string key;
        std::optional<std::string> value;
        std::string description;  // of the comment above that begins with the name
    };
    std::vector<Arg> args;
};
struct OnbuildCommand {
    std::string expression;
};

enum class MountKind : std::uint8_t { bind, cache, tmpfs, secret, ssh };
enum class MountSharing : std::uint8_t { shared, private_, locked };

// RUN --mount=…
struct Mount {
    MountKind type = MountKind::bind;
    std::string from;
    std::string source;
    std::string target;
    bool readonly = true;
    std::int64_t size_bytes = 0;
    std::string id;
    MountSharing sharing = MountSharing::shared;
    bool required = false;
    std::optional<std::uint64_t> mode;
    std::optional<std::uint64_t> uid;
    std::optional<std::uint64_t> gid;
    std::optional<std::string> env;
};
// Expands one value of a mount. A flag is read once without, when only its `from` is known, and once
// with it, when its step is reached: what stands in stages nobody needs is not judged, as in BuildKit.
using ExpandValue = std::function<Result<std::string>(std::string_view)>;
[[nodiscard]] Result<Mount> parse_mount(std::string_view csv, const ExpandValue& expand);

enum class RunNetwork : std::uint8_t { standard, none, host };
enum class RunSecurity : std::uint8_t { sandbox, insecure };
struct RunDevice {
    std::string name;
    bool required = false;
};
struct RunCommand {
    std::vector<std::string> words;
    bool prepend_shell = false;
    std::vector<Heredoc> heredocs;
    std::vector<std::string> mount_flags;  // as written: values are expanded when the step is reached
    RunNetwork network = RunNetwork::standard;
    RunSecurity security = RunSecurity::sandbox;
    std::vector<RunDevice> devices;
};
// The `from` of each mount, in order; empty where a mount names none.
[[nodiscard]] std::vector<std::string> mount_sources(const RunCommand& run);

struct FileSources {
    std::vector<std::string> paths;
    std::vector<Heredoc> contents;
    std::string dest;
};
struct CopyCommand {
    FileSources files;
    std::string from;
    std::string chown;
    std::string chmod;
    bool link = false;
    bool parents = false;
    std::vector<std::string> exclude;
};
struct AddCommand {
    FileSources files;
    std::string chown;
    std::string chmod;
    bool link = false;
    std::optional<bool> keep_git_dir;
    std::optional<bool> unpack;
    std::string checksum;
    std::vector<std::string> exclude;
};

using Command = std::variant<EnvCommand, LabelCommand, MaintainerCommand, WorkdirCommand, UserCommand, CmdCommand,
                             EntrypointCommand, HealthcheckCommand, ExposeCommand, VolumeCommand, StopsignalCommand,
                             ShellCommand, ArgCommand, OnbuildCommand, RunCommand, CopyCommand, AddCommand>;

struct Instruction {
    Command command;
    std::string name;                   // lower case
    std::string keyword;                // as written
    std::string original;               // the joined line
    std::vector<std::string> flags;     // as written, "--link"
    std::vector<std::string> comments;  // directly above
    Lines location;
};

struct Stage {
    std::string name;  // lower case; empty when it has none
    std::string written_name;
    std::string base_name;
    std::string platform;  // of --platform
    std::string source_code;
    std::string keyword;      // "FROM" as written
    std::string as_keyword;   // "AS" as written; empty when the stage has no name
    std::string description;  // of the comment above that begins with the name
    std::vector<std::string> comments;
    Lines location;
    std::vector<Instruction> commands;
};

struct StageList {
    std::vector<Instruction> meta_args;  // ARG before the first FROM
    std::vector<Stage> stages;
};

// Every instruction but FROM.
[[nodiscard]] Result<Instruction> parse_instruction(Node node);
// FROM; the stage has no commands yet.
[[nodiscard]] Result<Stage> parse_from(Node node);

// As far as it goes: what is wrong is left out and reported, at most kMaxErrors times. Each error has
// its Excerpt.
struct StageReading {
    StageList list;
    std::vector<Error> errors;
};
[[nodiscard]] StageReading read_stages(const ParsedFile& file);
// The same, and the file has no nodes any more.
[[nodiscard]] StageReading take_stages(ParsedFile& file);
// One error of all: the first, with the others in its hint and all of them marked in its Excerpt.
[[nodiscard]] Result<> verdict(const StageReading& reading, const ParsedFile& file);
[[nodiscard]] Result<StageList> parse_stages(const ParsedFile& file);

// What the comments above say of `name`: the rest of the first that begins with it and a blank.
[[nodiscard]] std::string doc_comment(const std::vector<std::string>& comments, std::string_view name);
// All instruction words, upper case, for suggestions.
[[nodiscard]] const std::vector<std::string>& instruction_names();

}  // namespace cooper::dockerfile
