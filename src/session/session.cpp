#include "session/session.hpp"

#include "base/text.hpp"

namespace cooper::session {

const std::string& Session::id() const {
    static const std::string none;
    return none;
}

Result<std::shared_ptr<LocalFiles>> Session::local_files(const LocalRequest& request, VertexProgress& /*progress*/,
                                                         Stop /*stop*/) {
    return fail(Code::not_found, Blame::user, "the client has no directory {}", quoted(request.name));
}

Result<> Session::export_directory(int /*exporter*/, const std::vector<DirectoryExport>& /*trees*/,
                                   const DirectoryOptions& /*options*/, VertexProgress& /*progress*/, Stop /*stop*/) {
    return fail(Code::not_found, Blame::user, "the client takes no directory");
}

Result<std::unique_ptr<Session::FileExport>> Session::export_file(
    int /*exporter*/, const std::map<std::string, std::string>& /*metadata*/, Stop /*stop*/) {
    return fail(Code::not_found, Blame::user, "the client takes no file");
}

Result<std::unique_ptr<ByteSource>> Session::read_content(const std::string& store, const Digest& /*digest*/,
                                                          std::uint64_t /*offset*/, Stop /*stop*/) {
    return fail(Code::not_found, Blame::user, "the client has no content store {}", quoted(store));
}

Result<std::unique_ptr<ByteSource>> Session::read_upload(const std::string& name, Stop /*stop*/) {
    return fail(Code::not_found, Blame::user, "the client uploads no {}", quoted(name));
}

Result<std::uint64_t> Session::content_size(const std::string& store, const Digest& /*digest*/, Stop /*stop*/) {
    return fail(Code::not_found, Blame::user, "the client has no content store {}", quoted(store));
}

Result<> Session::write_content(const std::string& store, const Digest& /*digest*/, std::uint64_t /*size_bytes*/,
                                ByteSource& /*source*/, Stop /*stop*/) {
    return fail(Code::not_found, Blame::user, "the client has no content store {}", quoted(store));
}

Result<registry::Credential> Session::find_credential(const std::string& /*host*/, Stop /*stop*/) {
    return registry::Credential{};
}

Result<std::optional<Secret>> Session::find_secret(const std::string& /*id*/, Stop /*stop*/) {
    return std::optional<Secret>{};
}

Result<std::unique_ptr<SshSocket>> Session::open_ssh(const std::string& /*id*/, const SocketOwner& /*owner*/,
                                                     Stop /*stop*/) {
    return std::unique_ptr<SshSocket>{};
}

}  // namespace cooper::session
