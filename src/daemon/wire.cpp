#include "daemon/wire.hpp"

#include "base/text.hpp"
#include "codec/go_json.hpp"
#include "daemon/conversations.hpp"
#include "dockerfile/subrequest.hpp"
#include "llb/marshal.hpp"
#include "proto/fsutil.pb.h"
#include "proto/gateway.pb.h"
#include "proto/sourcepolicy.pb.h"
#include "rpc/status.hpp"

#include <grpcpp/support/status.h>

namespace cooper::daemon {

namespace wire = moby::buildkit::v1::frontend;

void to_message(const engine::FrontendResult& result, Conversation& conversation, wire::Result& message) {
    const auto fill = [&](const engine::ResultRef& ref, wire::Ref& out) {
        out.set_id(conversation.keep(ref));
        out.set_def(llb::marshal(conversation.job().definition(ref)));
    };
    if (result.single) {
        fill(result.ref, *message.mutable_ref());
    } else {
        auto& refs = *message.mutable_refs()->mutable_refs();
        for (const auto& [platform, ref] : result.refs) fill(ref, refs[platform]);
    }
    for (const auto& [key, value] : result.metadata) (*message.mutable_metadata())[key] = value;
    for (const auto& [platform, statements] : result.statements) {
        auto& out = (*message.mutable_attestations())[platform];
        for (const auto& one : statements) {
            auto& attestation = *out.add_attestation();
            attestation.set_kind(one.bundle ? wire::Bundle : wire::InToto);
            for (const auto& [key, value] : one.metadata) (*attestation.mutable_metadata())[key] = value;
            fill(one.ref, *attestation.mutable_ref());
            attestation.set_path(one.path);
            attestation.set_intotopredicatetype(one.predicate_type);
            for (const auto& subject : one.subjects) {
                auto& to = *attestation.add_intotosubjects();
                to.set_kind(subject.result ? wire::Self : wire::Raw);
                to.set_name(subject.name);
                to.mutable_digest()->Add(subject.digests.begin(), subject.digests.end());
            }
        }
    }
}

namespace {

Result<engine::FrontendStatement> from_message(const wire::Attestation& message, Conversation& conversation) {
    engine::FrontendStatement statement;
    if (message.kind() != wire::InToto && message.kind() != wire::Bundle)
        return bad_input("unknown kind of attestation: {}", static_cast<int>(message.kind()));
    statement.bundle = message.kind() == wire::Bundle;
    for (const auto& [key, value] : message.metadata()) statement.metadata[key] = value;
    if (!message.has_ref()) return bad_input("the attestation {} is in no result", quoted(message.path()));
    statement.ref = TRY(conversation.find(message.ref().id()));
    statement.path = message.path();
    statement.predicate_type = message.intotopredicatetype();
    for (const auto& subject : message.intotosubjects()) {
        if (subject.kind() != wire::Self && subject.kind() != wire::Raw)
            return bad_input("unknown kind of subject: {}", static_cast<int>(subject.kind()));
        statement.subjects.push_back({.result = subject.kind() == wire::Self,
                                      .name = subject.name(),
                                      .digests = {subject.digest().begin(), subject.digest().end()}});
    }
    return statement;
}

}  // namespace

Result<engine::FrontendResult> from_message(const wire::Result& message, Conversation& conversation) {
    engine::FrontendResult result;
    switch (message.result_case()) {
        case wire::Result::kRefDeprecated:
            result.ref = TRY(conversation.find(message.refdeprecated()));
            break;
        case wire::Result::kRef:
            result.ref = TRY(conversation.find(message.ref().id()));
            break;
        case wire::Result::kRefsDeprecated:
            result.single = false;
            for (const auto& [platform, id] : message.refsdeprecated().refs())
                result.refs[platform] = TRY(conversation.find(id));
            break;
        case wire::Result::kRefs:
            result.single = false;
            for (const auto& [platform, ref] : message.refs().refs())
                result.refs[platform] = TRY(conversation.find(ref.id()));
            break;
        case wire::Result::RESULT_NOT_SET:
            break;
    }
    for (const auto& [key, value] : message.metadata()) result.metadata[key] = value;
    for (const auto& [platform, attestations] : message.attestations()) {
        auto& statements = result.statements[platform];
        for (const auto& one : attestations.attestation()) statements.push_back(TRY(from_message(one, conversation)));
    }
    return result;
}

grpc::Status call_status(const Error& error, const std::string& request_id) {
    const bool unanswered = error.code() == Code::unimplemented && !dockerfile::is_subrequest(request_id);
    if (request_id.empty() || !unanswered) return rpc::to_status(error);
    codec::GoJson json;
    json.begin_object().field("name", request_id).end_object();
    return rpc::to_status(error, {{"errdefs.Subrequest", std::move(json).take()}});
}

void to_message(const filesync::Stat& stat, fsutil::types::Stat& message) {
    message.set_path(stat.path);
    message.set_mode(stat.mode);
    message.set_uid(stat.uid);
    message.set_gid(stat.gid);
    message.set_size(stat.size);
    message.set_modtime(stat.mtime_ns);
    message.set_linkname(stat.linkname);
    message.set_devmajor(stat.devmajor);
    message.set_devminor(stat.devminor);
    for (const auto& [name, value] : stat.xattrs) (*message.mutable_xattrs())[name] = value;
}

llb::Platform from_message(const pb::Platform& message) {
    llb::Platform platform;
    platform.os = message.os();
    platform.architecture = message.architecture();
    platform.variant = message.variant();
    platform.os_version = message.osversion();
    platform.os_features.assign(message.osfeatures().begin(), message.osfeatures().end());
    return platform;
}

void to_message(const llb::Platform& platform, pb::Platform& message) {
    message.set_os(platform.os);
    message.set_architecture(platform.architecture);
    message.set_variant(platform.variant);
    message.set_osversion(platform.os_version);
    message.mutable_osfeatures()->Assign(platform.os_features.begin(), platform.os_features.end());
}

llb::SourceOp from_message(const pb::SourceOp& message) {
    return {.identifier = message.identifier(), .attrs = {message.attrs().begin(), message.attrs().end()}};
}

void to_message(const llb::SourceOp& source, pb::SourceOp& message) {
    message.set_identifier(source.identifier);
    message.mutable_attrs()->clear();
    message.mutable_attrs()->insert(source.attrs.begin(), source.attrs.end());
}

void to_message(const std::string& identifier, const engine::SourceMeta& meta,
                wire::ResolveSourceMetaResponse& message) {
    if (identifier.starts_with("git://")) {
        message.mutable_git()->set_checksum(meta.checksum);
        message.mutable_git()->set_ref(meta.ref);
        message.mutable_git()->set_commitchecksum(meta.commit);
        return;
    }
    message.mutable_http()->set_checksum(meta.checksum);
    message.mutable_http()->set_filename(meta.filename);
    if (meta.last_modified_s) message.mutable_http()->mutable_lastmodified()->set_seconds(*meta.last_modified_s);
}

frontend::ResolveMode to_resolve_mode(const std::string& text) {
    if (text == "pull") return frontend::ResolveMode::pull;
    return text == "local" ? frontend::ResolveMode::local : frontend::ResolveMode::standard;
}

Result<sourcepolicy::Policy> from_message(const moby::buildkit::v1::sourcepolicy::Policy& message) {
    sourcepolicy::Policy policy{.version = message.version(), .rules = {}};
    for (const auto& rule : message.rules()) {
        sourcepolicy::Rule out;
        if (rule.action() < 0 || rule.action() > 2)
            return bad_input("source policy: unknown action {}", int{rule.action()});
        const auto& selector = rule.selector();
        if (selector.match_type() < 0 || selector.match_type() > 2)
            return bad_input("source policy: unknown match type {}", int{selector.match_type()});
        out.action = static_cast<sourcepolicy::Action>(rule.action());
        out.match = static_cast<sourcepolicy::Match>(selector.match_type());
        out.identifier = selector.identifier();
        for (const auto& one : selector.constraints()) {
            if (one.condition() < 0 || one.condition() > 2)
                return bad_input("source policy: unknown attr condition {}", int{one.condition()});
            out.attributes.push_back(
                {one.key(), one.value(), static_cast<sourcepolicy::AttributeMatch>(one.condition())});
        }
        if (rule.has_updates()) {
            const auto& attrs = rule.updates().attrs();
            out.update = sourcepolicy::Rule::Update{rule.updates().identifier(), {attrs.begin(), attrs.end()}};
        }
        policy.rules.push_back(std::move(out));
    }
    return policy;
}

Result<sourcepolicy::Policies> from_messages(
    const google::protobuf::RepeatedPtrField<moby::buildkit::v1::sourcepolicy::Policy>& messages) {
    std::vector<sourcepolicy::Policy> policies;
    for (const auto& message : messages) policies.push_back(TRY(from_message(message)));
    return sourcepolicy::Policies::create(policies);
}

const std::vector<std::string>& gateway_capabilities() {
    static const std::vector<std::string> all = {
        "solve.base",
        "solve.inlinereturn",
        "resolveimage",
        "resolveimage.resolvemode",
        "readfile",
        "return",
        "returnmap",
        "readdir",
        "statfile",
        "importcaches",
        "proto.refarray",
        "reference.output",
        "frontend.inputs",
        "gateway.solve.metadata",
        "frontend.caps",
        "gateway.solve.evaluate",
        "gateway.evaluate",
        "gateway.warnings",
        "source.metaresolver",
        "gateway.exec",
        "gateway.exec.extrahosts",
        "gateway.exec.secretenv",
        "gateway.exec.signals",
    };
    return all;
}

const std::vector<std::string>& llb_capabilities() {
    static const std::vector<std::string> all = {
        "source.image",
        "source.image.resolvemode",
        "source.image.layerlimit",
        "source.image.checksum",
        "source.local",
        "source.local.unique",
        "source.local.sessionid",
        "source.local.includepatterns",
        "source.local.followpaths",
        "source.local.excludepatterns",
        "source.local.sharedkeyhint",
        "source.local.differ",
        "source.git",
        "source.git.keepgitdir",
        "source.git.fullurl",
        "source.git.httpauth",
        "source.git.knownsshhosts",
        "source.git.mountsshsock",
        "source.git.subdir",
        "source.git.checksum",
        "source.git.skipsubmodules",
        "source.http",
        "source.http.checksum",
        "source.http.perm",
        // As it is spelt there.
        "soruce.http.uidgid",
        "source.ocilayout",
        "source.policy",
        "source.buildop.llbfilename",
        "exec.meta.base",
        "exec.meta.cgroup.parent",
        "exec.meta.network",
        "exec.meta.proxyenv",
        "exec.meta.security",
        "exec.meta.security.devices.v1",
        "exec.meta.setsdefaultpath",
        "exec.meta.ulimit",
        "exec.mount.bind",
        "exec.mount.bind.readwrite-nooutput",
        "exec.mount.cache",
        "exec.mount.cache.sharing",
        "exec.mount.selector",
        "exec.mount.tmpfs",
        "exec.mount.tmpfs.size",
        "exec.mount.secret",
        "exec.mount.ssh",
        "exec.mount.cache.content",
        "exec.cgroup",
        "exec.secretenv",
        "exec.validexitcode",
        "file.base",
        "file.rm.wildcard",
        "file.rm.nofollowsymlink",
        "file.copy.includeexcludepatterns",
        "file.copy.alwaysreplaceexistingdestpaths",
        "file.symlink.create",
        "constraints",
        "platform",
        "meta.ignorecache",
        "meta.description",
        "meta.exportcache",
        "mergeop",
        "diffop",
        "passthroughop",
        "exporter.image.attestations",
        "exporter.image.annotations",
        "exporter.sourcedateepoch",
        "exporter.multiple",
        "gc.freespacefilter",
        "history.filter",
    };
    return all;
}

}  // namespace cooper::daemon
