// cooper parse, cooper fmt: Dockerfiles as trees and in their canonical form. They read files, and build nothing.
#include "cli/command.hpp"
#include "cli/line_diff.hpp"
#include "dockerfile/format.hpp"
#include "dockerfile/parse.hpp"
#include "sys/fd.hpp"

#include <CLI/CLI.hpp>
#include <array>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cooper::cli {

namespace {

struct Input {
    std::string name;  // as errors call it
    std::string text;
};

Result<Input> read_input(const std::string& name) {
    if (name == "-") return Input{"standard input", TRY(read_dockerfile(STDIN_FILENO, ""))};
    const sys::Fd file(::open(name.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return fail_errno(errno, name);
    return Input{name, TRY_CONTEXT(read_dockerfile(file.get(), ""), "{}", name)};
}

// Beside the file, and then in its place: whoever reads it sees the old text or the new one.
Result<> replace_file(const std::string& name, std::string_view text) {
    std::array<char, PATH_MAX> resolved{};
    if (::realpath(name.c_str(), resolved.data()) == nullptr) return fail_errno(errno, name);
    const std::string path = resolved.data();
    struct stat st{};
    if (::stat(path.c_str(), &st) != 0) return fail_errno(errno, name);
    std::string beside = path + ".XXXXXX";
    const sys::Fd file(::mkostemp(beside.data(), O_CLOEXEC));
    if (!file.valid()) return fail_errno(errno, beside);
    const auto write = [&]() -> Result<> {
        TRY(sys::write_all(file.get(), text));
        if (::fchmod(file.get(), st.st_mode & 07777) != 0) return fail_errno(errno, beside);
        if (::fchown(file.get(), st.st_uid, st.st_gid) != 0 && errno != EPERM) return fail_errno(errno, beside);
        if (::fsync(file.get()) != 0 || ::rename(beside.c_str(), path.c_str()) != 0) return fail_errno(errno, path);
        return {};
    };
    auto written = write();
    if (!written) ::unlink(beside.c_str());
    return written;
}

Action setup_parse(CLI::App& app) {
    struct Flags {
        std::string file = "Dockerfile", format = "json";
    };
    auto flags = std::make_shared<Flags>();
    app.add_option("FILE", flags->file, "Dockerfile [Dockerfile]; - reads standard input");
    app.add_option("--format", flags->format, "json, or dockerfile for the canonical form [json]")
        ->type_name("FORMAT")
        ->check(CLI::IsMember({"json", "dockerfile"}));
    return [flags](Session& /*session*/) -> Result<int> {
        const Input input = TRY(read_input(flags->file));
        const std::string out = flags->format == "json" ? TRY(dockerfile::syntax_tree_json(input.text, input.name))
                                                        : TRY(dockerfile::format(input.text, input.name));
        TRY(sys::write_all(STDOUT_FILENO, out));
        return 0;
    };
}

struct FmtFlags {
    std::vector<std::string> files;
    bool write = false, check = false, diff = false;
};

// True: the file has another form than the canonical one.
Result<bool> format_one(const FmtFlags& flags, const std::string& name) {
    const Input input = TRY(read_input(name));
    const std::string form = TRY(dockerfile::format(input.text, input.name));
    const bool differs = form != input.text;
    if (flags.diff) TRY(sys::write_all(STDOUT_FILENO, unified_diff(input.text, form, name, name + " (formatted)")));
    if (flags.check && differs && !flags.diff) TRY(sys::write_all(STDOUT_FILENO, name + "\n"));
    if (flags.write && differs) TRY(replace_file(name, form));
    if (!flags.write && !flags.check && !flags.diff) TRY(sys::write_all(STDOUT_FILENO, form));
    return differs;
}

Action setup_fmt(CLI::App& app) {
    auto flags = std::make_shared<FmtFlags>();
    app.add_option("FILE", flags->files, "Dockerfiles [Dockerfile]; - reads standard input");
    app.add_flag("-w,--write", flags->write, "Write the form to the file it is of");
    app.add_flag("--check", flags->check, "Print the names of files that have another form; exit 1 when there are any");
    app.add_flag("--diff", flags->diff, "Print what would change");
    return [flags](Session& /*session*/) -> Result<int> {
        if (flags->files.empty()) flags->files = {"Dockerfile"};
        if (flags->write && std::ranges::count(flags->files, "-") > 0) {
            return bad_input("standard input cannot be written to")
                .with_hint("leave --write out to get the form on standard output");
        }
        int status = 0;
        for (const std::string& name : flags->files) {
            const auto differs = format_one(*flags, name);
            if (!differs) print_error(differs.error());
            if (!differs || (flags->check && *differs)) status = 1;
        }
        return status;
    };
}

}  // namespace

Result<std::string> read_dockerfile(int fd, std::string text) {
    std::array<std::byte, 1U << 16U> buffer{};
    while (text.size() <= dockerfile::kMaxFile) {
        const std::size_t size = TRY(sys::read_some(fd, buffer));
        if (size == 0) break;
        text.append(reinterpret_cast<const char*>(buffer.data()), size);
    }
    return text;
}

std::vector<Command> dockerfile_commands() {
    return {{"fmt", "Write Dockerfiles in their canonical form",
             "  cooper fmt Dockerfile            print it\n"
             "  cooper fmt -w */Dockerfile       rewrite the files\n"
             "  cooper fmt --check --diff        for CI: show what would change, exit 1\n",
             setup_fmt, false},
            {"parse", "Print the tree of a Dockerfile",
             "  cooper parse | jq '.stages[].name'\n"
             "  cooper parse --format=dockerfile - < Dockerfile\n",
             setup_parse, false}};
}

}  // namespace cooper::cli
