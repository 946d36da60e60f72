// Doors for the flags of `cooper build`: text as users of docker build type it → request values.
#pragma once

#include "base/result.hpp"
#include "engine/build_request.hpp"

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cooper::cli {

// One line of comma separated values with "quoted" fields (RFC 4180), as docker reads --secret and -o.
[[nodiscard]] Result<std::vector<std::string>> parse_csv(std::string_view line);

// "type=registry,ref=…", "type=local,dest=DIR" or src=DIR, "type=inline"; a bare name is an image.
enum class CacheWay : std::uint8_t { from, to };
[[nodiscard]] Result<engine::CacheSpec> parse_cache(std::string_view flag, CacheWay way);
// id=x,src=path | id=x,env=VAR | id=x (the variable x if it is set, else the file x); ,leak=allow ,invalidate=true
[[nodiscard]] Result<engine::SecretSpec> parse_secret(std::string_view flag);
// default | id | id=path[,path…]
[[nodiscard]] Result<engine::SshSpec> parse_ssh(std::string_view flag);
// type=oci,dest=out.tar,… | DIR (type=local) | - (a tar on standard output)
[[nodiscard]] Result<engine::ExportSpec> parse_export(std::string_view flag);
// No two of them write to one place.
[[nodiscard]] Result<> check_destinations(const std::vector<engine::ExportSpec>& exports);
// K=V | K (the caller's variable; absent when that is unset)
[[nodiscard]] Result<> parse_build_arg(std::string_view flag, std::map<std::string, std::string>& args);
// NAME=DIR|URL|…
[[nodiscard]] Result<> parse_build_context(std::string_view flag, std::map<std::string, std::string>& contexts);
// OS/ARCH[/VARIANT][,…]
[[nodiscard]] Result<> parse_platforms(std::string_view flag, std::vector<oci::Platform>& platforms);
// --attest type=KIND,… | --provenance, --sbom true|false|…. false takes it back.
[[nodiscard]] Result<> parse_attest(std::string_view flag, std::map<std::string, std::string>& attestations);
[[nodiscard]] Result<> parse_attest_of(std::string_view kind, std::string_view flag,
                                       std::map<std::string, std::string>& attestations);
// HOST:IP | HOST=IP
[[nodiscard]] Result<std::pair<std::string, std::string>> parse_add_host(std::string_view flag);
// 64m, 1g, 1024
[[nodiscard]] Result<std::int64_t> parse_memory(std::string_view flag);

// What the last argument means: a directory, "-", a git or http URL.
[[nodiscard]] bool is_git_url(std::string_view context);
[[nodiscard]] bool is_http_url(std::string_view context);

}  // namespace cooper::cli
