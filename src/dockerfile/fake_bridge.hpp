// FakeBridge: answers to a frontend's questions without an engine, for tests, fuzzers and benchmarks.
#pragma once

#include "frontend/bridge.hpp"
#include "llb/load.hpp"

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace cooper::dockerfile {

// Images by reference; every image exists for every platform. With `any_image` every name is alpine.
class FakeBridge final : public frontend::Bridge {
public:
    std::map<std::string, std::string> images = {
        {"docker.io/library/alpine:3",
         R"({"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin","A=base"],"Cmd":["/bin/sh"],"WorkingDir":"/","OnBuild":null},"rootfs":{"type":"layers","diff_ids":["sha256:)" +
             std::string(64, 'b') + R"("]},"history":[{"created_by":"base"}]})"},
    };
    std::map<std::string, std::string> files;  // "local:path"
    std::string http_head;
    bool any_image = false;
    std::vector<std::string> log;

    Result<frontend::ResolvedImage> resolve_image_config(const std::string& reference,
                                                         const llb::Platform& /*platform*/,
                                                         frontend::ResolveMode /*mode*/, const std::string& log_name,
                                                         Stop /*stop*/) override {
        const std::lock_guard lock(mutex_);
        log.push_back(log_name);
        auto found = images.find(reference);
        if (found == images.end() && any_image) found = images.begin();
        if (found == images.end()) return fail(Code::not_found, Blame::user, "{}: not found", reference);
        return frontend::ResolvedImage{reference, digest(), found->second};
    }
    Result<frontend::ResolvedImage> resolve_oci_layout(const frontend::OciLayout& layout, const llb::Platform& /*p*/,
                                                       const std::string& log_name, Stop /*stop*/) override {
        const std::lock_guard lock(mutex_);
        log.push_back(log_name);
        return frontend::ResolvedImage{layout.reference, digest(), images.at("docker.io/library/alpine:3")};
    }
    Result<std::vector<std::optional<std::string>>> read_local_files(const std::string& local_name,
                                                                     const std::vector<std::string>& paths,
                                                                     std::size_t /*limit*/, const std::string& log_name,
                                                                     Stop /*stop*/) override {
        log.push_back(log_name);
        std::vector<std::optional<std::string>> texts;
        for (const auto& path : paths) {
            const auto found = files.find(local_name + ":" + path);
            texts.push_back(found == files.end() ? std::nullopt : std::optional(found->second));
        }
        return texts;
    }
    Result<std::optional<std::string>> read_file_of(const llb::Definition& definition, const std::string& path,
                                                    std::size_t /*limit*/, Stop /*stop*/) override {
        const auto graph = llb::load(definition);
        if (!graph) return graph.error();
        const auto found = files.find(graph->vertices.back().name + ":" + path);
        if (found == files.end()) return std::nullopt;
        return found->second;
    }
    Result<std::optional<frontend::ContextStat>> stat_of(const llb::Definition& /*definition*/,
                                                         const std::string& /*path*/, Stop /*stop*/) override {
        return std::nullopt;
    }
    Result<std::string> peek_http(const std::string& /*url*/, std::size_t /*limit*/, Stop /*stop*/) override {
        return http_head;
    }

private:
    static Digest digest() { return *Digest::parse("sha256:" + std::string(64, 'a')); }

    std::mutex mutex_;
};

}  // namespace cooper::dockerfile
