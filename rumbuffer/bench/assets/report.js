"use strict";
(() => {
  const themes = {
    light: {
      "@1": "#0b5cad", "@2": "#b4510a", "@3": "#16744a", "@4": "#7a3fa0", "@red": "#c4262e", "@grey": "#6a737d",
      "@ink": "#1b1f24", "@muted": "#57606a", "@grid": "#e4e8ec", "@shade": "rgba(11,92,173,0.14)",
      "@clear": "rgba(87,96,106,0.10)", "@paper": "#ffffff",
    },
    dark: {
      "@1": "#6cb6ff", "@2": "#f0a35e", "@3": "#57c98f", "@4": "#c69cf4", "@red": "#ff7b72", "@grey": "#9aa4af",
      "@ink": "#e6edf3", "@muted": "#a5afba", "@grid": "#2d343c", "@shade": "rgba(108,182,255,0.18)",
      "@clear": "rgba(165,175,186,0.12)", "@paper": "#14181d",
    },
  };
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const printing = window.matchMedia("print");

  const coloured = (value, theme) => {
    if (typeof value === "string") return theme[value] ?? value;
    if (Array.isArray(value)) return value.map((part) => coloured(part, theme));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, coloured(part, theme)]));
  };

  const draw = () => {
    const theme = dark.matches && !printing.matches ? themes.dark : themes.light;
    const common = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: theme["@ink"] },
      margin: { l: 56, r: 16, t: 12, b: 44 }, dragmode: "zoom",
      hoverlabel: { bgcolor: dark.matches ? "#20262d" : "#ffffff", font: { color: theme["@ink"] } },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" },
    };
    for (const chart of charts) {
      const place = document.getElementById(`chart-${chart.id}`);
      const layout = { ...common, ...coloured(chart.layout, theme) };
      Plotly.react(place, coloured(chart.data, theme), layout, {
        responsive: true, displaylogo: false, displayModeBar: false,
      });
    }
  };
  draw();
  dark.addEventListener("change", draw);
  printing.addEventListener("change", draw);
})();
