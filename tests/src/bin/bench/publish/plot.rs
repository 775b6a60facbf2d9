//! Plots as SVG. Nothing but text comes out: no script, no font of its own, readable on light and
//! dark pages.

use std::fmt::Write as _;

use crate::sample::Spread;
use crate::text::number;

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 430.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 340.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 52.0;
/// Told apart by nearly all eyes (Okabe and Ito, 2008).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];

/// Curves over the number of filters, both axes logarithmic.
#[derive(Debug, Default)]
pub(crate) struct Curves {
    pub(crate) title: String,
    pub(crate) y: String,
    pub(crate) series: Vec<Series>,
}

/// A curve: its name, and values with their quartiles by number of filters.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, Spread)>,
}

/// Bars from 0 on.
#[derive(Debug, Default)]
pub(crate) struct Bars {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) bars: Vec<(String, Spread)>,
}

/// What a number is on a logarithmic axis between two pixels.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Has room for all values, from one of 1, 2, 5, 10, 20 and so on to another one.
    fn new(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).max(1e-3);
        let most = values.fold(1e-3, f64::max);
        let low = steps()
            .take_while(|step| *step <= least)
            .last()
            .unwrap_or(1e-3);
        let high = steps()
            .find(|step| *step >= most && *step > low)
            .unwrap_or(1e9);
        Self {
            low,
            high,
            from,
            to,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(self.low) / self.low).log10() / (self.high / self.low).log10();
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        // where there are many, the powers of ten are enough
        let is_long = self.high / self.low > 2e3;
        let (low, high) = (self.low, self.high);
        let is_power = |step: f64| (step.log10() - step.log10().round()).abs() < 1e-9;
        steps().filter(move |step| {
            (low..=high * 1.000_001).contains(step) && (!is_long || is_power(*step))
        })
    }
}

/// 0.001, 0.002, 0.005, 0.01 and so on.
fn steps() -> impl Iterator<Item = f64> {
    (-3..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
}

/// A tick's number: no more digits than it has.
fn tick(value: f64) -> String {
    if value < 1.0 {
        format!("{value}")
    } else {
        format!("{value:.0}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The picture without what is in it.
struct Canvas(String);

impl Canvas {
    fn new(title: &str, height: f64) -> Self {
        let mut canvas = Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        ));
        canvas.text(
            WIDTH / 2.0,
            26.0,
            "middle",
            &format!("font-size=\"16\">{}", escaped(title)),
        );
        canvas
    }

    fn push(&mut self, element: &str) {
        self.0 += element;
        self.0 += "\n";
    }

    /// `rest`: attributes, `>` and the text.
    fn text(&mut self, x: f64, y: f64, anchor: &str, rest: &str) {
        let _infallible = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222\" {rest}</text>"
        );
    }

    fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], stroke: &str) {
        self.push(&format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{stroke}\"/>"));
    }

    fn finish(mut self) -> String {
        self.push("</svg>");
        self.0
    }
}

impl Curves {
    /// The picture. Curves without points are not in it.
    pub(crate) fn svg(&self) -> String {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Axis::new(points().map(|(x, _)| *x), LEFT, right);
        let y = Axis::new(points().flat_map(|(_, y)| [y.low, y.high]), bottom, TOP);
        let mut canvas = Canvas::new(&self.title, HEIGHT);
        for step in x.ticks() {
            canvas.line([x.at(step), TOP], [x.at(step), bottom], "#dddddd");
            canvas.text(
                x.at(step),
                bottom + 18.0,
                "middle",
                &format!(">{}", tick(step)),
            );
        }
        for step in y.ticks() {
            canvas.line([LEFT, y.at(step)], [right, y.at(step)], "#dddddd");
            canvas.text(
                LEFT - 6.0,
                y.at(step) + 4.0,
                "end",
                &format!(">{}", tick(step)),
            );
        }
        canvas.text((LEFT + right) / 2.0, HEIGHT - 12.0, "middle", ">filters");
        let (middle, label) = ((TOP + bottom) / 2.0, escaped(&self.y));
        canvas.text(
            18.0,
            middle,
            "middle",
            &format!("transform=\"rotate(-90 18 {middle:.1})\">{label}"),
        );
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let path: Vec<String> = series
                .points
                .iter()
                .map(|(at, value)| format!("{:.1},{:.1}", x.at(*at), y.at(value.median)))
                .collect();
            canvas.push(&format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            ));
            for (at, value) in &series.points {
                canvas.line(
                    [x.at(*at), y.at(value.low)],
                    [x.at(*at), y.at(value.high)],
                    colour,
                );
                let (cx, cy) = (x.at(*at), y.at(value.median));
                canvas.push(&format!(
                    "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
                ));
            }
            let row = TOP + 10.0 + 24.0 * index as f64;
            canvas.push(&format!(
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>",
                right + 14.0,
                row - 6.0
            ));
            canvas.text(
                right + 34.0,
                row,
                "start",
                &format!(">{}", escaped(&series.name)),
            );
        }
        canvas.finish()
    }
}

impl Bars {
    /// The picture.
    pub(crate) fn svg(&self) -> String {
        const BAR: f64 = 22.0;
        const NAMES: f64 = 440.0;
        let height = TOP + 34.0 * self.bars.len() as f64 + BOTTOM;
        let most = self
            .bars
            .iter()
            .map(|(_, value)| value.high)
            .fold(1.0, f64::max);
        let (right, bottom) = (WIDTH - 70.0, height - BOTTOM);
        let at = |value: f64| NAMES + (right - NAMES) * value / most;
        let mut canvas = Canvas::new(&self.title, height);
        let step = if most > 2.5 { 0.5 } else { 0.2 };
        for index in 0..=(most / step) as u32 {
            let value = step * f64::from(index);
            let stroke = if (value - 1.0).abs() < 1e-9 {
                "#888888"
            } else {
                "#dddddd"
            };
            canvas.line([at(value), TOP - 6.0], [at(value), bottom], stroke);
            canvas.text(at(value), bottom + 18.0, "middle", &format!(">{value:.1}"));
        }
        canvas.text(
            (NAMES + right) / 2.0,
            height - 12.0,
            "middle",
            &format!(">{}", escaped(&self.x)),
        );
        for (index, (name, value)) in self.bars.iter().enumerate() {
            let (top, colour) = (TOP + 34.0 * index as f64, COLOURS[0]);
            let middle = top + BAR / 2.0;
            canvas.text(
                NAMES - 10.0,
                middle + 4.0,
                "end",
                &format!(">{}", escaped(name)),
            );
            canvas.push(&format!(
                "<rect x=\"{NAMES}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\" fill-opacity=\"0.7\"/>",
                at(value.median) - NAMES
            ));
            canvas.line([at(value.low), middle], [at(value.high), middle], "#000000");
            canvas.text(
                at(value.high) + 6.0,
                middle + 4.0,
                "start",
                &format!(">{}", number(value.median)),
            );
        }
        canvas.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(median: f64) -> Spread {
        Spread {
            low: median / 1.1,
            median,
            high: median * 1.1,
        }
    }

    #[test]
    fn an_axis_holds_all_values_and_its_ticks_are_round() {
        let axis = Axis::new([3.0, 40.0].into_iter(), 0.0, 100.0);
        assert_eq!(
            axis.ticks().collect::<Vec<_>>(),
            [2.0, 5.0, 10.0, 20.0, 50.0]
        );
        assert_eq!((axis.at(2.0), axis.at(50.0)), (0.0, 100.0));
        assert!((axis.at(10.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn a_curve_goes_up_where_its_values_do_and_names_are_escaped() {
        let points = vec![(1.0, at(10.0)), (100.0, at(20.0))];
        let curves = Curves {
            series: vec![Series {
                name: "<a> & b".to_owned(),
                points,
            }],
            ..Curves::default()
        };
        let svg = curves.svg();
        assert!(svg.contains("&lt;a&gt; &amp; b"));
        let path = svg
            .split("points=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap();
        let ys: Vec<f64> = path
            .split([',', ' '])
            .skip(1)
            .step_by(2)
            .map(|y| y.parse().unwrap())
            .collect();
        assert!(ys[0] > ys[1], "{path}");
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bars = Bars {
            bars: vec![("a".to_owned(), at(0.5)), ("b".to_owned(), at(1.0))],
            ..Bars::default()
        };
        let svg = bars.svg();
        let lengths = svg
            .split("width=\"")
            .skip(2)
            .filter_map(|rest| rest.split('"').next()?.parse::<f64>().ok());
        let lengths: Vec<f64> = lengths.collect();
        assert!((lengths[1] / lengths[0] - 2.0).abs() < 0.01, "{lengths:?}");
    }
}
