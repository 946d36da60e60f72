// TabWriter: columns padded with tabs as Go's text/tabwriter does it with (minwidth 1, tabwidth 8, padding 1, '\t'), in
// which buildctl prints its tables. A column is a run of lines that have a tab-terminated cell there.
#pragma once

#include <string>
#include <string_view>

namespace cooper::buildctl {

// Lines of cells, each cell but the last ended by a tab.
[[nodiscard]] std::string align_tabs(std::string_view text);

}  // namespace cooper::buildctl
