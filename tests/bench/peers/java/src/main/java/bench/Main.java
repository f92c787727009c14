package bench;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.util.EnvironmentInformation;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/**
 * The process that the harness talks to, as described in peers/protocol.py: ready after a run to warm up, then one
 * run for each line "run" on standard input.
 */
public final class Main {
    /** When the last operator of the job that runs now was opened: from then on all subtasks are there. */
    private static volatile long opened;

    /** To be called by operators when they are opened. */
    static void isOpen() {
        opened = System.nanoTime();
    }

    public static void main(String[] arguments) throws Exception {
        long started = System.nanoTime();
        Map<String, List<String>> options = parse(arguments);
        Path output = Path.of(options.get("output").get(0));
        try {
            double startSeconds = secondsSince(started);
            double firstRun = run(options, output)[0];
            say("\"ready\": true, \"start_s\": %s, \"first_run_s\": %s, \"version\": \"%s\"",
                    startSeconds, firstRun, EnvironmentInformation.getVersion());
            BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                if (line.strip().equals("run")) {
                    double[] times = run(options, output);
                    say("\"seconds\": %s, \"start_s\": %s", times[0], times[1]);
                }
            }
        } catch (Exception error) {
            error.printStackTrace();
            say("\"error\": \"%s\"", error.getClass().getName());
            System.exit(1);
        }
        System.exit(0);
    }

    /** Runs the job; returns its seconds and how many of them its start took. */
    private static double[] run(Map<String, List<String>> options, Path output) throws Exception {
        clear(output);
        long started = System.nanoTime();
        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(
                Integer.parseInt(options.get("workers").get(0)), new Configuration());
        env.getConfig().enableObjectReuse();
        List<String> paths = options.get("plain-paths");
        switch (options.get("workload").get(0)) {
            case "word-count" -> WordCount.build(env, paths, output);
            case "tumbling" -> Windows.build(env, paths, output, false);
            case "sliding" -> Windows.build(env, paths, output, true);
            case "ewma" -> Ewma.build(env, paths, output);
            default -> throw new IllegalArgumentException("no such workload here");
        }
        env.execute();
        return new double[] {secondsSince(started), (opened - started) / 1e9};
    }

    private static Map<String, List<String>> parse(String[] arguments) {
        Map<String, List<String>> options = new HashMap<>();
        List<String> values = new ArrayList<>();
        for (String argument : arguments) {
            if (argument.startsWith("--")) {
                values = options.computeIfAbsent(argument.substring(2), name -> new ArrayList<>());
            } else {
                values.add(argument);
            }
        }
        return options;
    }

    private static void clear(Path folder) throws IOException {
        if (Files.exists(folder)) {
            try (var paths = Files.walk(folder)) {
                paths.sorted(Comparator.reverseOrder()).forEach(Main::delete);
            }
        }
        Files.createDirectories(folder);
    }

    private static void delete(Path path) {
        try {
            Files.delete(path);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static double secondsSince(long nanos) {
        return (System.nanoTime() - nanos) / 1e9;
    }

    private static void say(String form, Object... values) {
        System.out.println("@bench {" + String.format(form, values) + "}");
        System.out.flush();
    }

    private Main() {}
}
