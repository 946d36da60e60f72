// Directories that the daemon reads, and what it sends back.
#include "base/text.hpp"
#include "client/detail/services.hpp"
#include "codec/wire.hpp"
#include "filesync/local_tree.hpp"
#include "filesync/packet_stream.hpp"
#include "filesync/receive.hpp"
#include "filesync/send.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <mutex>
#include <unistd.h>

namespace cooper::client::detail {

namespace {

constexpr std::size_t kUploadBytes = 256UL << 10U;

class CallPackets final : public filesync::PacketStream {
public:
    explicit CallPackets(rpc::MessageStream& call) : call_(call) {}
    Result<> send(std::string_view message) override {
        const std::scoped_lock lock(writing_);
        return call_.write(message);
    }
    Result<> send_ahead(std::string_view message) override {
        const std::scoped_lock lock(writing_);
        return call_.write_ahead(message);
    }
    Result<std::optional<std::string>> receive() override {
        std::string message;
        if (!TRY(call_.read(message))) return std::optional<std::string>();
        return std::optional(std::move(message));
    }
    Result<> close_send() override { return {}; }  // with the handler
    void cancel() override { call_.cancel(); }

private:
    rpc::MessageStream& call_;
    std::mutex writing_;
};

std::string unescape(std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        std::array<std::uint8_t, 1> byte{};
        if (text[i] == '%' && i + 2 < text.size() && from_hex(to_lower(text.substr(i + 1, 2)), byte)) {
            plain += static_cast<char>(byte[0]);
            i += 2;
        } else {
            plain += text[i] == '+' ? ' ' : text[i];
        }
    }
    return plain;
}

// Values that are no ASCII come escaped, and say so.
std::vector<std::string> values_of(const rpc::Metadata& metadata, const std::string& key) {
    const bool escaped = rpc::find_value(metadata, key + "-encoded") == "1";
    std::vector<std::string> values;
    for (const auto& [name, value] : metadata) {
        if (name == key) values.push_back(escaped ? unescape(value) : value);
    }
    return values;
}

Result<> send_directory(Shared& shared, rpc::MessageStream& call, const rpc::Metadata& metadata) {
    const auto names = values_of(metadata, "dir-name");
    const std::string name = names.empty() ? "" : names.front();
    const auto found = shared.offer.directories.find(name);
    if (found == shared.offer.directories.end()) {
        return fail(Code::not_found, Blame::user, "no access allowed to dir {}", quoted(name));
    }
    const filesync::LocalPatterns patterns{
        .include = values_of(metadata, "include-patterns"),
        .exclude = values_of(metadata, "exclude-patterns"),
        .follow_paths = values_of(metadata, "followpaths"),
        .modes = shared.offer.git_modes ? snapshot::Modes::git : snapshot::Modes::as_they_are};
    const auto tree = filesync::open_local_tree(found->second, patterns);
    if (!tree) return shared.keep(tree.error().with_context(found->second));
    CallPackets packets(call);
    const auto sent = filesync::send(packets, {{.name = "", .tree = *tree}}, {}, shared.stop);
    if (!sent) return sent.error();
    return {};
}

// The content of a BytesMessage.
Result<std::string_view> data_of(std::string_view message) {
    std::string_view data;
    codec::WireReader in(message);
    while (!in.done()) {
        const codec::WireField field = TRY(in.next());
        if (field.id == 1 && field.is_bytes()) data = field.bytes;
    }
    return data;
}

// Written beside the file it becomes.
class OutputFile {
public:
    static Result<OutputFile> create(const std::string& path) {
        OutputFile file;
        if (path == "-") {
            file.fd_ = sys::Fd(::dup(STDOUT_FILENO));
            return file;
        }
        file.path_ = path;
        struct stat st{};
        // A device or a pipe is written to, not replaced.
        if (::stat(path.c_str(), &st) == 0 && !S_ISREG(st.st_mode)) {
            file.path_.clear();
            file.fd_ = sys::Fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
            if (!file.fd_.valid()) return fail_errno(errno, path);
            return file;
        }
        file.temporary_ = fmt::format("{}.{}.tmp", path, random_id());
        file.fd_ = sys::Fd(::open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
        if (!file.fd_.valid()) return fail_errno(errno, path);
        return file;
    }
    OutputFile(OutputFile&& other) noexcept
        : path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, "")), fd_(std::move(other.fd_)) {}
    OutputFile& operator=(OutputFile&&) = delete;
    ~OutputFile() {
        if (!temporary_.empty()) ::unlink(temporary_.c_str());
    }
    Result<> write(std::string_view data) { return sys::write_all(fd_.get(), data); }
    Result<> finish() {
        TRY(std::move(fd_).close());
        if (temporary_.empty()) return {};
        if (::rename(temporary_.c_str(), path_.c_str()) != 0) return fail_errno(errno, path_);
        temporary_.clear();
        return {};
    }

private:
    OutputFile() = default;
    std::string path_;
    std::string temporary_;
    sys::Fd fd_;
};

Result<> take_file(rpc::MessageStream& call, const std::string& path) {
    OutputFile file = TRY(OutputFile::create(path));
    std::string message;
    while (TRY(call.read(message))) TRY_CONTEXT(file.write(TRY(data_of(message))), "write {}", path);
    return file.finish();
}

Result<> take_directory(Shared& shared, rpc::MessageStream& call, const ExportTarget& target,
                        const rpc::Metadata& metadata) {
    const bool several = rpc::find_value(metadata, "buildkit-exporter-multi-platform") == "1";
    if (target.remove_others && !several) {
        return fail(Code::failed_precondition, Blame::world,
                    "the daemon does not send all of a result at once, so mode=delete would lose files");
    }
    const sys::RootedDir root = TRY(sys::RootedDir::open_host("/"));
    std::string path = target.path;
    if (!path.starts_with('/')) {
        std::array<char, 4096> here{};
        if (::getcwd(here.data(), here.size()) == nullptr) return fail_errno(errno, "current directory");
        path = std::string(here.data()) + "/" + path;
    }
    TRY_CONTEXT(root.make_dirs(path, 0755), "{}", target.path);
    const sys::RootedDir dest = TRY(sys::RootedDir::open_host(path));
    filesync::ReceiveOptions options;
    options.others = target.remove_others ? filesync::Others::remove : filesync::Others::keep;
    options.compare = filesync::Compare::none;
    options.devices = filesync::Devices::leave_out;
    options.adjust = [](filesync::Stat& stat) {
        stat.uid = ::getuid();
        stat.gid = ::getgid();
    };
    CallPackets packets(call);
    const auto received = filesync::receive(packets, dest, options, shared.stop);
    if (!received) return received.error();
    return {};
}

Result<> take_export(Shared& shared, rpc::MessageStream& call, const rpc::Metadata& metadata) {
    const std::string_view text = rpc::find_value(metadata, "buildkit-attachable-exporter-id");
    const auto number = text.empty() ? std::optional<std::int64_t>(0) : parse_int(text);
    const auto found = number ? shared.offer.exports.find(static_cast<int>(*number)) : shared.offer.exports.end();
    if (found == shared.offer.exports.end()) {
        return fail(Code::not_found, Blame::world, "exporter {} sends nothing to this client", quoted(text));
    }
    const ExportTarget& target = found->second;
    const Result<> taken = target.kind == ExportTarget::Kind::file ? take_file(call, target.path)
                                                                   : take_directory(shared, call, target, metadata);
    if (!taken) return shared.keep(taken.error().with_context("write " + target.path));
    return {};
}

Result<> give_upload(Shared& shared, rpc::MessageStream& call, const rpc::Metadata& metadata) {
    std::string_view path = rpc::find_value(metadata, "urlpath");
    if (path.starts_with('/')) path.remove_prefix(1);
    const auto found = shared.offer.uploads.find(std::string(path));
    if (found == shared.offer.uploads.end()) {
        return fail(Code::not_found, Blame::world, "nothing to upload as {}", quoted(path));
    }
    Bytes buffer(kUploadBytes);
    for (off_t at = 0;;) {
        TRY(check_stop(shared.stop));
        const ssize_t n = ::pread(found->second, buffer.data(), buffer.size(), at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return shared.keep(fail_errno(errno, "read what is uploaded"));
        if (n == 0) return {};
        at += n;
        codec::WireWriter message;
        message.element(1, as_text(std::span<const std::byte>(buffer).first(static_cast<std::size_t>(n))));
        TRY(call.write(message.bytes()));
    }
}

}  // namespace

std::vector<rpc::RawMethod> file_methods(Shared& shared) {
    return {{.path = "/moby.filesync.v1.FileSync/DiffCopy",
             .serve = [&shared](rpc::MessageStream& call,
                                const rpc::Metadata& metadata) { return send_directory(shared, call, metadata); }},
            {.path = "/moby.filesync.v1.FileSend/DiffCopy",
             .serve = [&shared](rpc::MessageStream& call,
                                const rpc::Metadata& metadata) { return take_export(shared, call, metadata); }},
            {.path = "/moby.upload.v1.Upload/Pull",
             .serve = [&shared](rpc::MessageStream& call, const rpc::Metadata& metadata) {
                 return give_upload(shared, call, metadata);
             }}};
}

}  // namespace cooper::client::detail
