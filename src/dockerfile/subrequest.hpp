// Subrequests: what clients ask of the frontend other than a build, by the id of their "requestid".
// Answers are BuildKit's: "result.json", "result.txt", for checks
// "result.statuscode", and "version"; there is no file tree. "frontend.convertllb" has only the JSON.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "dockerfile/to_llb.hpp"

#include <map>
#include <string>
#include <string_view>

namespace cooper::dockerfile {

inline constexpr std::string_view kRequestDescribe = "frontend.subrequests.describe";
inline constexpr std::string_view kRequestOutline = "frontend.outline";
inline constexpr std::string_view kRequestTargets = "frontend.targets";
inline constexpr std::string_view kRequestLint = "frontend.lint";
inline constexpr std::string_view kRequestConvertLlb = "frontend.convertllb";

using SubrequestAnswer = std::map<std::string, std::string>;

[[nodiscard]] bool is_subrequest(std::string_view id);

// "unsupported request ID" (unimplemented) when there is none such. Of the checks a file that cannot be
// built is an answer, not an error. Blocks on `bridge`: all but describe and targets need the
// configuration of base images.
[[nodiscard]] Result<SubrequestAnswer> answer_subrequest(std::string_view id, const std::string& dockerfile,
                                                         const ConvertOptions& options, frontend::Bridge& bridge,
                                                         Stop stop);

}  // namespace cooper::dockerfile
