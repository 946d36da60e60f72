// Session: what the client of a build offers to it: files, secrets, SSH agents, credentials, and places
// for what comes out. Asked for when a step needs it, and only then. `cooper build` reads its own files
// and sockets (LocalSession); a daemon asks through a tunnel. Any thread; calls may block.
//
// Errors: a client that has gone gives Code::unavailable with the detail SessionLost, which makes the
// engine try another client that wants the same work.
#pragma once

#include "base/bytes.hpp"
#include "base/digest.hpp"
#include "base/progress.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "registry/credentials.hpp"
#include "snapshot/tree.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace cooper::session {

// A value that must not be shown: prints as "***" everywhere, and is wiped when it goes.
class Secret {
public:
    Secret() = default;
    explicit Secret(std::string value) : value_(std::move(value)) {}
    Secret(const Secret&) = default;
    Secret(Secret&&) noexcept = default;
    Secret& operator=(const Secret&) = default;
    Secret& operator=(Secret&&) noexcept = default;
    ~Secret();
    [[nodiscard]] const std::string& reveal() const { return value_; }

private:
    std::string value_;
};

// A socket on the host that speaks the agent protocol, for as long as this lives.
class SshSocket {
public:
    virtual ~SshSocket() = default;
    [[nodiscard]] virtual const std::string& host_path() const = 0;
};

struct SocketOwner {
    uid_t uid = 0;
    gid_t gid = 0;
    mode_t mode = 0600;
};

// What of a directory of the client's is wanted. Patterns are those of BuildKit's local source: include
// and follow_paths empty = everything that exclude leaves.
struct LocalRequest {
    std::string name;        // "context", "dockerfile", a named context
    std::string session_id;  // local.session of the source; empty = whoever has it
    std::vector<std::string> include;
    std::vector<std::string> exclude;
    std::vector<std::string> follow_paths;
    std::string shared_key;  // hint: transfers with one key differ little
};

// A directory of this machine with the client's files. They do not change as long as this lives,
// unless the client is a local one who changes them.
class LocalFiles {
public:
    virtual ~LocalFiles() = default;
    [[nodiscard]] virtual const std::string& host_path() const = 0;
};

// Where a result goes to at the client, by the index of its exporter.
struct DirectoryExport {
    std::string name;  // sub-directory ("linux_amd64"); empty = the destination itself
    snapshot::TreeRef tree;
};
struct DirectoryOptions {
    std::optional<std::int64_t> epoch_seconds;  // all times become it
    bool remove_others = false;                 // mode=delete: what is not in the trees goes
};

// What a client does not offer is not overridden: asking gives not_found or nothing.
class Session {
public:
    virtual ~Session() = default;
    // Empty: a client that has no name.
    [[nodiscard]] virtual const std::string& id() const;

    // not_found when the client has no such directory.
    virtual Result<std::shared_ptr<LocalFiles>> local_files(const LocalRequest& request, VertexProgress& progress,
                                                            Stop stop);
    // All trees in one transfer.
    virtual Result<> export_directory(int exporter, const std::vector<DirectoryExport>& trees,
                                      const DirectoryOptions& options, VertexProgress& progress, Stop stop);
    // A file that the client writes (an archive). finish() waits until the client has it all; a sink that
    // goes without it leaves the client with an error.
    class FileExport : public ByteSink {
    public:
        virtual Result<> finish() = 0;
    };
    virtual Result<std::unique_ptr<FileExport>> export_file(int exporter,
                                                            const std::map<std::string, std::string>& metadata,
                                                            Stop stop);
    // A content store of the client's ("oci:NAME" of a named context, "local:DIR" of a cache, "export").
    // From offset to the end; not verified. not_found when it has no such blob.
    virtual Result<std::unique_ptr<ByteSource>> read_content(const std::string& store, const Digest& digest,
                                                             std::uint64_t offset, Stop stop);
    virtual Result<std::uint64_t> content_size(const std::string& store, const Digest& digest, Stop stop);
    // Does nothing when the store has it.
    virtual Result<> write_content(const std::string& store, const Digest& digest, std::uint64_t size_bytes,
                                   ByteSource& source, Stop stop);
    // What the client uploads for "http://buildkit-session/NAME" (a build context from its standard input). Once.
    virtual Result<std::unique_ptr<ByteSource>> read_upload(const std::string& name, Stop stop);
    // An anonymous one when the client knows none.
    virtual Result<registry::Credential> find_credential(const std::string& host, Stop stop);
    // nullopt when the client offers no such secret. At most 512 KiB, as BuildKit allows.
    virtual Result<std::optional<Secret>> find_secret(const std::string& id, Stop stop);
    // nullptr when the client forwards no such agent. The socket gets the owner and mode asked for.
    virtual Result<std::unique_ptr<SshSocket>> open_ssh(const std::string& id, const SocketOwner& owner, Stop stop);
};

}  // namespace cooper::session
